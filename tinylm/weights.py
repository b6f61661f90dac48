"""Names and shapes of a model's weights, and plain number formats they are stored in.

Axis letters as in tinylm.config. Must not know files.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.config import ModelConfig

__all__ = ["LOOKUP_TABLES", "copy_rows", "is_matrix", "pack_bf16", "random_weights", "unpack_bf16", "weight_shapes"]

Array = npt.NDArray[Any]


LOOKUP_TABLES = ("ngram_embeddings.", "value_embeddings.", "copy_embeddings.")  # a token reads a few rows of them


def copy_rows(config: ModelConfig) -> int:
    """Return the rows of `copy_embeddings`: one per token that may come next, then one per length of n-gram."""
    return config.vocab_size + config.copy_ngrams + 1


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return name and float shape of every weight of such a model; matrices are (out, in)."""
    C, F, V = config.d_model, config.d_ff, config.vocab_size
    D, H, G = config.head_width, config.n_heads, config.n_kv_heads
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (V, C)}
    if config.position == "learned":
        shapes["pos_embeddings.weight"] = (config.context_length, C)
    shapes |= {f"ngram_embeddings.{n}.weight": (rows, C) for n, rows in enumerate(config.ngram_rows, start=2)}
    if config.copy_ngrams:
        shapes["copy_embeddings.weight"] = (copy_rows(config), C)
    if config.value_embeddings:
        shapes |= {f"value_embeddings.{layer}.weight": (V, G * D) for layer in range(config.n_layers)}
    for layer in range(config.n_layers):
        matrices = {"attn.wq": (H * D, C), "attn.wk": (G * D, C), "attn.wv": (G * D, C), "attn.wo": (C, H * D)}
        if config.activation == "swiglu":
            matrices["mlp.w_gate"] = (F, C)
        matrices |= {"mlp.w_up": (F, C), "mlp.w_down": (C, F)}
        shapes |= _norm_shapes(config, f"layers.{layer}.attn_norm") | _norm_shapes(config, f"layers.{layer}.mlp_norm")
        for name, shape in matrices.items():
            shapes[f"layers.{layer}.{name}.weight"] = shape
            if config.bias:
                shapes[f"layers.{layer}.{name}.bias"] = shape[:1]
        if config.qk_norm:
            shapes[f"layers.{layer}.attn.q_norm.weight"] = (D,)
            shapes[f"layers.{layer}.attn.k_norm.weight"] = (D,)
    shapes |= _norm_shapes(config, "norm")
    if not config.tied_embeddings:
        shapes["head.weight"] = (V, C)
    return shapes


def _norm_shapes(config: ModelConfig, name: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (config.d_model,)}
    if config.norm == "layernorm" and config.bias:
        shapes[f"{name}.bias"] = (config.d_model,)
    return shapes


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether this weight is stored in the model's precision; all others are float32."""
    return len(shape) == 2 and name != "pos_embeddings.weight"


def random_weights(config: ModelConfig, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return weights for speed tests: matrices normal with std 1/sqrt(fan in) / 2, norms 1, biases small."""
    rng = np.random.Generator(np.random.Philox(seed))
    weights = {}
    for name, shape in weight_shapes(config).items():
        if name.endswith("norm.weight"):
            weights[name] = np.ones(shape, np.float32)
            continue
        std = 0.02 if len(shape) == 1 or "embeddings" in name else 0.5 / math.sqrt(shape[1])
        weights[name] = rng.standard_normal(shape, np.float32) * np.float32(std)
    return weights


def pack_bf16(values: Array) -> npt.NDArray[np.uint16]:
    """Return the bfloat16 bits of finite float32 `values`, rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def unpack_bf16(bits: Array) -> npt.NDArray[np.float32]:
    """Return the float32 values of bfloat16 `bits`."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
