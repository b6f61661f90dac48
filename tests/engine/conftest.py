"""Tiny random models for the engine's tests, built once per configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.config import ModelConfig
from tinylm.modelfile import random_weights
from tinylm.quantize import write_model

BASE = {"vocab_size": 97, "context_length": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "d_model": 32, "d_ff": 80}

Build = Callable[..., Path]


def lively_weights(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Random weights whose logits are far from flat and whose norms and biases matter."""
    rng = np.random.default_rng(seed)
    weights = random_weights(config, seed)
    for name, value in weights.items():
        if name.endswith("norm.weight"):
            weights[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif value.ndim == 1:
            weights[name] = rng.normal(0, 0.2, value.shape).astype(np.float32)
        elif "embeddings" in name or name == "head.weight":
            weights[name] = rng.normal(0, 0.6, value.shape).astype(np.float32)
        else:
            weights[name] = value * np.float32(2)
    return weights


@pytest.fixture(scope="session")
def build_model(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that writes (once) a tiny model with the given config fields."""
    folder = tmp_path_factory.mktemp("models")
    made: dict[Any, Path] = {}

    def build(precision: str = "f32", seed: int = 1, bos: int | None = 1, eos: int | None = 2, **fields: Any) -> Path:
        config = ModelConfig(**{**BASE, **fields})
        key = (precision, seed, bos, eos, config.digest())
        if key not in made:
            path = folder / f"{len(made)}.tinylm"
            weights = lively_weights(config, seed)
            write_model(path, config, weights, b"", "bytes", bos, eos, precision, {"seed": seed})  # type: ignore[arg-type]
            made[key] = path
        return made[key]

    return build
