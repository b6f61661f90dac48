"""The comparison of recipes: the rival is tuned before it is measured, runs alternate, finished ones are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinylm.progress import NullProgress
from tinylm.train import compare
from tinylm.train.config import TrainConfig


def test_the_rival_is_tuned_and_runs_alternate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[TrainConfig] = []

    def fake_train(config: TrainConfig, tokens: Path, tokenizer: Path, out: Path, _: object) -> dict[str, Any]:
        assert tokens / "t.model" == tokenizer
        out.mkdir(parents=True)
        trained.append(config)
        plain = config.optimizer == "adamw"
        tuned = abs(config.matrix_lr - 0.004) + (config.batch_tokens - 2048) ** 2 / 1e7
        quality = 1.2 + tuned if plain else 1.3 - config.minutes / 10
        return {"valid_bits_per_byte": quality + config.seed / 100, "steps": 1, "tokens_per_s": 1.0, "train_s": 1.0}

    monkeypatch.setattr(compare, "train", fake_train)
    paths = tmp_path, tmp_path / "t.model", tmp_path / "out"
    runs, lines = compare.compare_recipes(*paths, 2.0, range(2), NullProgress())
    assert (runs[-2].rate, runs[-2].batch_tokens) == (0.004, 2048)
    assert [(run.recipe, run.minutes) for run in runs[-3:]] == [("ours", 2.0), ("plain", 2.0), ("ours", 1.0)]
    tuning, rounds = len(compare.RATES) + len(compare.BATCHES_TOKENS) - 1, 2 * 3 - 1
    assert len(runs) == len(trained) == tuning + rounds
    assert lines[0].startswith("plain: 1.2050")
    assert "(n=2)" in lines[0]
    assert lines[-1].endswith(": reached")
    compare.compare_recipes(*paths, 2.0, range(2), NullProgress())
    assert len(trained) == tuning + rounds
