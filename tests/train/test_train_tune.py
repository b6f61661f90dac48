"""The search over training settings: grids, rounds, who goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tinylm.errors import ConfigError
from tinylm.train.tune import Outcome, best_of, grid, minutes_of, survivors, table


def test_a_grid_has_every_combination() -> None:
    trials = grid({"train.matrix_lr": [0.01, 0.02], "train.momentum": [0.9, 0.95, 0.98]})
    assert len(trials) == len({tuple(trial.items()) for trial in trials}) == 6
    assert trials[0] == {"train.matrix_lr": 0.01, "train.momentum": 0.9}


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({}, "nothing to try"),
        ({"tokenizer.vocab_size": [512]}, "only settings of the table train"),
        ({"train.minutes": [1, 2]}, "not its minutes"),
        ({"train.matrix_lr": 0.02}, "expected a list"),
        ({"train.matrix_lr": []}, "expected a list"),
        ({"train.seed": list(range(65))}, "more than 64"),
    ],
)
def test_a_wrong_grid_is_named(vary: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(vary)


def test_minutes_double_while_trials_halve() -> None:
    assert minutes_of(8.0, 3) == [2.0, 4.0, 8.0]
    assert [survivors(5, turn) for turn in range(4)] == [5, 3, 2, 1]


def test_the_best_go_on_and_the_failed_never_do() -> None:
    failed = Outcome({"train.seed": 0}, 1.0, float("inf"), error="training diverged")
    outcomes = [failed] + [Outcome({"train.seed": seed}, 1.0, bpb) for seed, bpb in ((1, 1.2), (2, 1.0), (3, 1.1))]
    assert best_of(outcomes, 2) == [{"train.seed": 2}, {"train.seed": 3}]
    assert best_of([failed], 1) == []
    rows = table([*outcomes, Outcome({"train.seed": 2}, 2.0, 1.3)])
    assert [row["settings"] for row in rows] == [f"train.seed={seed}" for seed in (2, 2, 3, 1, 0)]
    assert rows[-1]["bits per byte"] == "training diverged"
