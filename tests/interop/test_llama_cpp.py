"""Our GGUF files in llama.cpp, where llama-cpp-python is installed: the same tokens and the same greedy text."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.backends import open_backend
from tinylm.backends.base import LoadedModel
from tinylm.config import GenerateOptions
from tinylm.interop.exports import export_model
from tinylm.interop.imports import import_model

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed; `make bench-peers` has it")

PROMPTS = ("Once upon a time", "Lily and Tom", 'The naïve dog said "Hi!"\n')


def open_gguf(path: Path, context: int) -> Any:
    f32 = llama_cpp.GGML_TYPE_F32  # the cache's usual half precision would blur ties
    return llama_cpp.Llama(str(path), n_ctx=context, verbose=False, n_threads=1, type_k=f32, type_v=f32)


def told_by_both(model: Path, gguf: Path, count: int, context: int, tie: float) -> list[tuple[int, ...]]:
    """Assert equal prompt tokens and equal greedy choices; return llama.cpp's tokens after each prompt.

    Args: tie: how far below our best logit, relative to the largest, their choice may lie; 0: must be ours.
    """
    theirs, ours, loaded = open_gguf(gguf, context), open_backend("native", model), LoadedModel.read(model)
    greedy, made = GenerateOptions(temperature=0, max_new_tokens=count, ignore_eos=True), []
    for prompt in PROMPTS:
        tokens = theirs.tokenize(prompt.encode(), add_bos=True, special=False)
        assert tokens == loaded.prompt_tokens(prompt)
        told = list(islice(theirs.generate(tokens, temp=0.0, repeat_penalty=1.0), count))
        if tie == 0:
            story = ours.generate(prompt, greedy)
            assert told == list(story.token_ids)
            assert theirs.detokenize(told, prev_tokens=tokens).decode(errors="replace") == story.text
        rows = ours.logits([*tokens, *told])[len(tokens) - 1 : -1]
        short = rows.max(axis=1) - rows[np.arange(count), told]
        assert (short <= tie * np.abs(rows).max(axis=1)).all()
        assert (short == 0).mean() > 0.9
        made.append(tuple(told))
    ours.close()
    return made


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_llama_cpp_tells_the_same_story(dtype: str, shared_data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    import_model(shared_data / "stories260K" / "stories260K.bin", model, precision="f32")
    export_model(model, "gguf", tmp_path / "model.gguf", dtype=dtype)
    assert len(set(told_by_both(model, tmp_path / "model.gguf", 150, 256, tie=0))) == len(PROMPTS)


def test_eight_bits_choose_alike_but_for_near_ties(shared_data: Path, tmp_path: Path) -> None:
    # With q8_0 weights llama.cpp also rounds activations to 8 bits; ours are the same weights with exact activations.
    gguf = tmp_path / "model.gguf"
    import_model(shared_data / "stories260K" / "stories260K.bin", tmp_path / "model.safetensors", precision="f32")
    export_model(tmp_path / "model.safetensors", "gguf", gguf, dtype="q8_0")
    import_model(gguf, tmp_path / "back.safetensors", precision="f32")
    told_by_both(tmp_path / "back.safetensors", gguf, 100, 256, tie=0.03)


_TOKENS = 300
_ENDS = {"bos_token_id": 0, "eos_token_id": 0}
_WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
_WIDE |= {"num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": 700}
_GPT2 = {"n_layer": 2, "n_positions": 256, "vocab_size": 50_257}  # the published width, heads and vocabulary
# Each architecture that GGUF files are written for; transformers draws the weights.
RANDOM: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**_WIDE, **_ENDS}),
    "llama biased": ("LlamaForCausalLM", {**_WIDE, **_ENDS, "attention_bias": True}),
    "qwen3": ("Qwen3ForCausalLM", {**_WIDE, **_ENDS, "head_dim": 32}),
    "gpt2": ("GPT2LMHeadModel", {**_GPT2, **_ENDS, "n_embd": 768, "n_head": 12}),
    "slm-51m": ("GPT2LMHeadModel", {**_GPT2, **_ENDS, "n_embd": 512, "n_head": 8, "activation_function": "gelu"}),
}


def byte_level_tokenizer() -> bytes:
    """Return a tokenizer.json trained the way GPT-2's was, on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_TOKENS, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    stories = ["Once upon a time Lily and Tom saw a naïve dog.\nThe dog said hi, and they didn't run 12 times!"] * 20
    tokenizer.train_from_iterator(stories, trainer)
    return bytes(tokenizer.to_str().encode())


def random_folder(name: str, folder: Path) -> Path:
    """Write a random transformers model whose greedy text wanders."""
    import torch
    import transformers

    kind, settings = RANDOM[name]
    torch.manual_seed(3)
    model_class = getattr(transformers, kind)
    model = model_class(model_class.config_class(**settings)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 2:  # layers outweigh the token's own embedding
                parameter.normal_(std=0.02 if "wte" in key or "wpe" in key or "embed" in key else 0.08)
            elif key.endswith("bias"):
                parameter.normal_(std=0.02)
            if parameter.shape[0] == settings["vocab_size"]:
                parameter[_TOKENS:] = 0  # rows past the tokenizer never win
    model.half().save_pretrained(folder)  # weights that f16 files keep
    (folder / "tokenizer.json").write_bytes(byte_level_tokenizer())
    return folder


@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("name", RANDOM)
def test_every_architecture_with_a_byte_level_tokenizer(name: str, dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the models are made with transformers")
    model, gguf = tmp_path / "model.safetensors", tmp_path / "model.gguf"
    import_model(random_folder(name, tmp_path / "theirs"), model, precision="f32")
    summary = export_model(model, "gguf", gguf, dtype=dtype)
    assert ("tanh form" in json.dumps(summary.as_dict())) == (name == "slm-51m")
    # f16: llama.cpp rounds activations too. slm-51m was made with the erf form of GELU, llama.cpp has the tanh form.
    made = told_by_both(model, gguf, 40, 128, tie=0 if dtype == "f32" and name != "slm-51m" else 0.01)
    assert len(set(made)) == len(PROMPTS)
    assert all(len(set(tokens)) > 5 for tokens in made), "text that repeats one token would hide differences"
