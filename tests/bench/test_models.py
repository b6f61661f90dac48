"""What a sweep says of a model file."""

from __future__ import annotations

import json
from pathlib import Path

from tinylm.bench.models import describe_model
from tinylm.config import ModelConfig
from tinylm.modelfile import random_weights
from tinylm.quantize import write_model

SHAPE = ModelConfig(vocab_size=300, context_length=64, n_layers=1, n_heads=2, n_kv_heads=2, d_model=32, d_ff=64)


def test_quality_comes_with_the_amount_of_text_it_was_measured_on(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, SHAPE, random_weights(SHAPE, 1), b"", "bytes", 256, 257, "int8", {"name": "tiny"})
    assert describe_model(path)["bits_per_byte"] is None
    (tmp_path / "summary.json").write_text(json.dumps({"bpb_after": 0.092, "validation_bytes": 200_000}))
    told = describe_model(path)
    assert (told["bits_per_byte"], told["validation_bytes"]) == (0.092, 200_000)
