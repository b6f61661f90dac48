"""Which model to train in the minutes given: shape, vocabulary and batch from a short measurement of this machine.

The ladder is measured where docs/LOG.md says so, else taken from published results: a shape is chosen by the
floating-point operations that the budget buys, so that it sees enough tokens per weight; the vocabulary follows
the width, because on a CPU every entry costs time in the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tinylm.config import ModelConfig
from tinylm.train.config import TrainConfig

__all__ = ["Recipe", "recommend", "scaled_shape"]

_STEP_EFFICIENCY = 0.55  # of a large matrix product's speed, measured for a whole training step on 2 cores (2026-11)
_FRESH_PASSES = 4  # repeats up to here count as fresh text (2305.16264); decay did harm at 2.6 (docs/LOG.md)
_TOKENS_SHARE = 0.8  # of what products alone would leave time for: runs of 8 and 30 minutes took 0.6 to 0.9
_SHORTEST_ROW = 64  # each doubling has a quarter of the run; 512 positions in its last tenth alone gain nothing
_DROPOUT_PASSES, _NGRAM_DROPOUT = 2, 0.3  # pairs are learned by heart; 0.5 is no better (docs/LOG.md)
_PAIRS_PER_TOKEN = 8  # rows of the table of pairs: four times as many gain nothing on 11 MB (docs/LOG.md)


@dataclass(frozen=True)
class Recipe:
    """Settings for the tokenizer and training stages, and why."""

    vocab_size: int
    train: TrainConfig
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Rung:
    upto_flops: float  # of the whole run
    d_model: int
    n_layers: int
    vocab_size: int
    context: int
    batch_tokens: int


_LADDER = (
    _Rung(4e12, 96, 3, 1024, 256, 1024),
    _Rung(2e13, 128, 3, 2048, 256, 1024),
    _Rung(8e13, 128, 4, 2048, 256, 1024),
    _Rung(6e14, 192, 5, 2048, 512, 2048),
    _Rung(1e16, 256, 8, 4096, 512, 8192),
    _Rung(3e17, 384, 8, 8192, 512, 32_768),
    _Rung(float("inf"), 512, 8, 8192, 512, 131_072),
)


def recommend(
    minutes: float, text_bytes: int, matmul_flops: float, *, workers: int = 1, tables: bool = False
) -> Recipe:
    """Return the recipe for `minutes` of training on `text_bytes` of text.

    Args: matmul_flops: measured speed of this machine's matrix products, per second (`plan.measure_speed`).
          workers: how many share a batch; each has a row of it, however long.
          tables: give the shape the lookup tables of `story-tables`, which no other tool opens.
    """
    flops = minutes * 60 * matmul_flops * _STEP_EFFICIENCY
    rung = next(rung for rung in _LADDER if flops <= rung.upto_flops)
    vocab_size = min(rung.vocab_size, max(512, text_bytes // 400))
    shape = scaled_shape(rung.d_model, rung.n_layers, vocab_size, rung.context)
    if tables:
        shape = shape.model_copy(update=_lookup_tables(vocab_size))
    tokens = _TOKENS_SHARE * flops / (6.0 * _weights_in_products(shape))
    passes = tokens * 3.7 / max(1, text_bytes)
    decay = 0.1 if passes > _FRESH_PASSES else 0.0
    rows = workers * rung.context
    dropout = _NGRAM_DROPOUT if tables and passes > _DROPOUT_PASSES else 0.0
    config = TrainConfig(
        model=shape,
        minutes=minutes,
        batch_tokens=-(-rung.batch_tokens // rows) * rows,
        short_context=_SHORTEST_ROW,
        short_share=0.25 * math.log2(rung.context // _SHORTEST_ROW),
        ngram_dropout=dropout,
        weight_decay=decay,
    )
    reasons = (
        f"{minutes:g} minutes at {_STEP_EFFICIENCY:.0%} of {matmul_flops / 1e9:.0f} GFLOP/s: {flops:.1e} operations",
        f"width {rung.d_model}, {rung.n_layers} layers: about {tokens / 1e6:.1f} M tokens, "
        f"{tokens / _weights_in_products(shape):.0f} per weight",
        f"vocabulary {vocab_size}: every entry costs time in the head"
        + (", and this text is small" if vocab_size < rung.vocab_size else ""),
        f"{passes:.1f} passes over {text_bytes / 1e6:.1f} MB: "
        + ("weight decay 0.1 against over-fitting" if decay else "no weight decay needed"),
        "lookup tables as asked: for TinyLM's own engines alone"
        + (f"; steps leave out {dropout:.0%} of the pairs against over-fitting" if dropout else "")
        if tables
        else "a layout that other tools open; --tables learns more, for our own engines alone",
    )
    return Recipe(vocab_size, config, reasons)


def scaled_shape(d_model: int, n_layers: int, vocab_size: int, context: int) -> ModelConfig:
    """Return a shape in the Qwen3 layout: heads of 64 (48 at width 96), SwiGLU of 2.5 times the width."""
    heads = max(2, d_model // 64)
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context,
        n_layers=n_layers,
        n_heads=heads,
        n_kv_heads=heads,
        d_model=d_model,
        d_ff=-(-d_model * 5 // 2 // 64) * 64,
        tied_embeddings=False,
        qk_norm=True,
        norm_eps=1e-6,
    )


def _lookup_tables(vocab_size: int) -> dict[str, Any]:
    """Return the fields of `ModelConfig` that give a shape the lookup tables of the preset `story-tables`."""
    return {"value_embeddings": True, "ngram_rows": (_PAIRS_PER_TOKEN * vocab_size,), "copy_ngrams": 4}


def _weights_in_products(shape: ModelConfig) -> int:
    per_layer = 4 * shape.d_model**2 + 3 * shape.d_model * shape.d_ff
    return shape.n_layers * per_layer + shape.vocab_size * shape.d_model
