"""Folders as they lie on the hub, not as today's transformers writes them: older settings, bare names, buffers.

The settings' keys are those of the published config.json files, the sizes are small; the tensors carry the masks and
rotation tables that the published files carry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the expected logits come from transformers")

import torch
from interop_models import our_logits, their_logits, tiny_tokenizer, worst
from safetensors.torch import save_file

from tinylm.errors import DataError
from tinylm.interop.hf_import import read_hf
from tinylm.interop.imports import read_checkpoint

VOCAB, CONTEXT, WIDTH, LAYERS = 300, 40, 32, 2
_GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 256,
    "embd_pdrop": 0.1,
    "eos_token_id": 256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": CONTEXT,
    "n_embd": WIDTH,
    "n_head": 4,
    "n_layer": LAYERS,
    "n_positions": CONTEXT,
    "resid_pdrop": 0.1,
    "summary_type": "cls_index",
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": VOCAB,
}
_TINYSTORIES = {
    "activation_function": "gelu_new",
    "architectures": ["GPTNeoForCausalLM"],
    "attention_dropout": 0,
    "attention_layers": ["global", "local"],
    "attention_types": [[["global", "local"], 1]],
    "bos_token_id": 256,
    "eos_token_id": 256,
    "gradient_checkpointing": False,
    "hidden_size": WIDTH,
    "intermediate_size": None,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": CONTEXT,
    "model_type": "gpt_neo",
    "num_heads": 16,
    "num_layers": LAYERS,
    "torch_dtype": "float32",
    "vocab_size": VOCAB,
    "window_size": 8,
}
_PYTHIA = {
    "architectures": ["GPTNeoXForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": CONTEXT,
    "model_type": "gpt_neox",
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.5,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_parallel_residual": True,
    "vocab_size": VOCAB,
}
_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 256,
    "eos_token_id": 256,
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": 56,
    "max_position_embeddings": CONTEXT,
    "max_sequence_length": CONTEXT,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCAB,
}
_QWEN2 = {
    **_LLAMA,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "max_window_layers": 1,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 8,
    "tie_word_embeddings": True,
    "use_mrope": False,
    "use_sliding_window": False,
}
_QWEN3 = {
    **_QWEN2,
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 16,
    "sliding_window": None,
}
_MISTRAL = {
    **_LLAMA,
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "rope_theta": 10000.0,
    "sliding_window": 8,
}
_MASK = torch.tril(torch.ones(1, 1, CONTEXT, CONTEXT))


def _layers(pattern: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    return {pattern.format(i=i): value.clone() for i in range(LAYERS)}


_NEO_MASKS = _layers("transformer.h.{i}.attn.attention.bias", _MASK.bool())
_NEO_MASKS |= _layers("transformer.h.{i}.attn.attention.masked_bias", torch.tensor(-1e9))
_NEOX_BUFFERS = _layers("gpt_neox.layers.{i}.attention.bias", _MASK.bool())
_NEOX_BUFFERS |= _layers("gpt_neox.layers.{i}.attention.masked_bias", torch.tensor(-1e9))
_NEOX_BUFFERS |= _layers("gpt_neox.layers.{i}.attention.rotary_emb.inv_freq", torch.ones(2))
# name → (config.json, tensors beside the weights, prefix that the file leaves out, type of the weights)
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor], str, torch.dtype]] = {
    "openai-community/gpt2": (_GPT2, _layers("transformer.h.{i}.attn.bias", _MASK), "transformer.", torch.float32),
    "TinyStories": (_TINYSTORIES, _NEO_MASKS, "", torch.float32),
    "pythia": (_PYTHIA, _NEOX_BUFFERS, "", torch.float16),
    "TinyLlama": (
        _LLAMA,
        _layers("model.layers.{i}.self_attn.rotary_emb.inv_freq", torch.ones(4)),
        "",
        torch.bfloat16,
    ),
    "Llama without grouping": (
        {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"},
        {},
        "",
        torch.float16,
    ),
    "Qwen2.5": (_QWEN2, {}, "", torch.bfloat16),
    "Qwen3 with its head stored": (_QWEN3, {"lm_head.weight": torch.zeros(VOCAB, WIDTH)}, "", torch.bfloat16),
    "Mistral": (_MISTRAL, {}, "", torch.bfloat16),
}


def publish(name: str, seed: int, folder: Path) -> Any:
    """Write the folder; return the transformers model that it holds."""
    import transformers

    settings, buffers, dropped, dtype = PUBLISHED[name]
    torch.manual_seed(seed)
    model_class = getattr(transformers, settings["architectures"][0])
    # transformers 5 reads the old keys only from a file, as from_pretrained does.
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    model = model_class(model_class.config_class.from_pretrained(folder)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(std=0.3)
            if "norm" in key or "ln_" in key:
                parameter.add_(float(key.endswith("weight")))
            parameter.copy_(parameter.to(dtype))
    head = "embed_out.weight" if "neox" in settings["model_type"] else "lm_head.weight"
    state = {(head if key == "lm_head.weight" else key): value.to(dtype) for key, value in model.state_dict().items()}
    if settings.get("tie_word_embeddings", True):
        del state[head]
    state = {key.removeprefix(dropped): value.contiguous() for key, value in (state | buffers).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_bytes(tiny_tokenizer())
    return model


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_agree(name: str, seed: int, tmp_path: Path) -> None:
    model = publish(name, seed, tmp_path)
    tokens = np.random.default_rng(seed).integers(0, VOCAB, CONTEXT).tolist()
    assert worst(our_logits(read_hf(tmp_path), tokens), their_logits(model, tokens)) < 1e-4


def test_a_hub_model_with_pickles_only_says_how_to_convert_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    publish("TinyStories", 1, tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    assert read_checkpoint("owner/TinyStories").config.local_window == 8
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"owner/TinyStories: .*never unpickles.*save_pretrained"):
        read_checkpoint("owner/TinyStories")
