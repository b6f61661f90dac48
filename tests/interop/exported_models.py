"""Small models of ours in memory, to be exported."""

from __future__ import annotations

import numpy as np

from tinylm.config import ModelConfig
from tinylm.interop.checkpoint import Checkpoint
from tinylm.modelfile import random_weights
from tinylm.presets import PRESETS

VOCAB = 420


def tiny(preset: str) -> ModelConfig:
    """Return a preset's parts at a size for tests."""
    return PRESETS[preset].model_copy(update={"vocab_size": VOCAB, "context_length": 64, "n_layers": 2})


def make_checkpoint(config: ModelConfig, tokenizer: bytes, seed: int = 1) -> Checkpoint:
    rng = np.random.default_rng(seed)
    weights = random_weights(config, seed)
    for name, rows in weights.items():
        if "norm" in name:
            weights[name] = rows + 0.1 * rng.standard_normal(rows.shape, np.float32)
    return Checkpoint(config, weights, tokenizer, "sentencepiece", 1, 2, True, {"made_for": "tests"})
