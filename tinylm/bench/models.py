"""What a sweep says of each model file it measures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinylm.config import ModelConfig, Precision
from tinylm.modelfile import read_model
from tinylm.weights import LOOKUP_TABLES, weight_shapes

__all__ = ["describe_model", "lookup_bytes", "macs_of_work", "macs_per_token", "weights_bytes"]

_BYTES: dict[Precision, float] = {"f32": 4, "bf16": 2, "int8": 1, "int4": 0.5}
_TABLE_BYTES: dict[Precision, int] = {"f32": 4, "bf16": 2, "int8": 1, "int4": 1}


def macs_per_token(config: ModelConfig) -> int:
    """Return the multiply-accumulates with weights that one token costs; attention over the past is not counted."""
    return macs_of_work(config, positions=1, logits=1)


def macs_of_work(config: ModelConfig, *, positions: int, logits: int) -> int:
    """Return the multiply-accumulates with weights of `positions` tokens, `logits` of which go through the head."""
    c, d = config.d_model, config.head_width
    attention = 2 * c * d * config.n_heads + 2 * c * d * config.n_kv_heads
    feed_forward = (3 if config.activation == "swiglu" else 2) * c * config.d_ff
    return positions * config.n_layers * (attention + feed_forward) + logits * config.vocab_size * c


def weights_bytes(config: ModelConfig, precision: Precision) -> int:
    """Return the bytes of weights that a step multiplies with, scales aside."""
    return int(macs_per_token(config) * _BYTES[precision])


def lookup_bytes(config: ModelConfig, precision: Precision) -> int:
    """Return the bytes of the tables of which a token reads only a few rows, so that no step reads them whole."""
    shapes = weight_shapes(config).items()
    tables = sum(math.prod(shape) for name, shape in shapes if name.startswith(LOOKUP_TABLES))
    return tables * _TABLE_BYTES[precision]


def describe_model(path: Path) -> dict[str, Any]:
    """Return name, digest, precision, shape and quality of a model file, as plain values."""
    model = read_model(path)
    provenance = model.header.provenance
    return {
        "name": str(provenance.get("name") or provenance.get("preset") or path.stem),
        "file": path.name,
        "file_bytes": path.stat().st_size,
        "digest": model.digest,
        "precision": model.precision,
        "config": model.config.model_dump(mode="json"),
        "macs_per_token": macs_per_token(model.config),
        "lookup_bytes": lookup_bytes(model.config, model.precision),
    } | _quality(path, provenance)


def _quality(path: Path, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Look in the file's provenance, then in the summary that its stage wrote beside it."""
    summary = path.with_name("summary.json")
    beside = json.loads(summary.read_text()) if summary.is_file() else {}
    for facts in (provenance, beside):
        for name in ("bits_per_byte", "bpb_after", "bpb"):
            if isinstance(facts.get(name), int | float):
                return {"bits_per_byte": float(facts[name]), "validation_bytes": facts.get("validation_bytes")}
    return {"bits_per_byte": None, "validation_bytes": None}
