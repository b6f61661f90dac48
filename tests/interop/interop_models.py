"""Tiny random models of other libraries, made on the spot; shared by the interop tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.backends.base import LoadedModel
from tinylm.backends.numpy_backend import NumpyBackend
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.tokenizer_json import byte_level_json
from tinylm.tokenizer import load_tokenizer

VOCAB = 300
CONTEXT = 48
_LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 256,
    "eos_token_id": 256,
}
_GPT2 = {"vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 3, "n_head": 4}
_NEO = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_layers": 3,
    "num_heads": 4,
    "max_position_embeddings": CONTEXT,
    "attention_types": [[["global", "local", "local"], 1]],
    "window_size": 5,
    "bos_token_id": 256,
    "eos_token_id": 256,
}
_NEOX = {
    **{key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"},
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
}
# name → (class, settings): every supported class with every part that changes its arithmetic.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _LLAMA),
    "llama-tied-biased": (
        "LlamaForCausalLM",
        {**_LLAMA, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    ),
    "llama-theta-head-dim": (
        "LlamaForCausalLM",
        {**_LLAMA, "head_dim": 12, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ),
    "llama-attention-bias": ("LlamaForCausalLM", {**_LLAMA, "attention_bias": True, "num_key_value_heads": 1}),
    "mistral-window": ("MistralForCausalLM", {**_LLAMA, "sliding_window": 7}),
    "mistral-full": ("MistralForCausalLM", {**_LLAMA, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", _LLAMA),
    "qwen2-window": (
        "Qwen2ForCausalLM",
        {**_LLAMA, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3ForCausalLM", {**_LLAMA, "head_dim": 16, "tie_word_embeddings": True}),
    "arcee": ("ArceeForCausalLM", _LLAMA),
    "gpt2": ("GPT2LMHeadModel", {**_GPT2, "bos_token_id": 256, "eos_token_id": 256}),
    "gpt2-scales": (
        "GPT2LMHeadModel",
        {
            **_GPT2,
            "n_inner": 40,
            "activation_function": "gelu",
            "scale_attn_weights": False,
            "scale_attn_by_inverse_layer_idx": True,
            "tie_word_embeddings": False,
            "bos_token_id": 256,
            "eos_token_id": 256,
        },
    ),
    "gpt-neo": ("GPTNeoForCausalLM", _NEO),
    "gpt-neox": ("GPTNeoXForCausalLM", _NEOX),
    "gpt-neox-sequential": ("GPTNeoXForCausalLM", {**_NEOX, "use_parallel_residual": False, "attention_bias": False}),
}


def make_model(name: str, seed: int) -> Any:
    """Return the transformers model `name` with every weight, bias and norm drawn at random."""
    import torch
    import transformers

    kind, settings = MODELS[name]
    torch.manual_seed(seed)
    model_class = getattr(transformers, kind)
    model = model_class(model_class.config_class(**settings)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(std=0.3)
            if "norm" in key or "ln_" in key:
                parameter.add_(float(key.endswith("weight")))
    return model


def save_model(model: Any, folder: Path, **options: Any) -> Path:
    """Write `model` with a byte-level tokenizer as transformers lays a folder out."""
    model.save_pretrained(folder, **options)
    (folder / "tokenizer.json").write_bytes(tiny_tokenizer())
    return folder


def tiny_tokenizer() -> bytes:
    """Return a tokenizer.json of the 256 bytes, an end mark, and three merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocab = {char: i for i, char in enumerate(sorted(ByteLevel.alphabet()))}
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the")]
    vocab |= {"<|endoftext|>": 256, "th": 257, "the": 258, "\u0120the": 259}
    return byte_level_json(vocab, merges, ["<|endoftext|>"])


def their_logits(model: Any, tokens: list[int]) -> NDArray[np.float32]:
    """Return the transformers model's logits (T, V)."""
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].numpy()
    return logits


def our_logits(checkpoint: Checkpoint, tokens: list[int]) -> NDArray[np.float32]:
    """Return the logits (T, V) of the plain NumPy forward."""
    model = LoadedModel(
        checkpoint.config,
        checkpoint.weights,
        load_tokenizer(checkpoint.tokenizer),
        checkpoint.bos_id,
        checkpoint.eos_id,
        checkpoint.add_bos,
    )
    return NumpyBackend(model).logits(tokens)


def worst(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest error over positions, relative to that position's largest logit."""
    scale = np.abs(expected).max(axis=-1)
    assert (scale > 0.1).all(), "the reference is flat: it would agree with anything"
    return float((np.abs(found - expected).max(axis=-1) / scale).max())
