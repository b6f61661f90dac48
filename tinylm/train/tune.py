"""Which settings train best: trials that differ in a few settings, in rounds, half of them dropped after each.

Every round trains its trials from the start, each with the schedule of that round's budget: a run judged in the
middle of a longer schedule would favour low rates, whose loss falls early. So a round costs a whole short run, and
what the last round says holds for its minutes. Successive halving: Jamieson and Talwalkar, 1502.07943.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinylm.errors import ConfigError

__all__ = ["MAX_TRIALS", "Outcome", "Trial", "best_of", "grid", "minutes_of", "name_of", "survivors", "table"]

MAX_TRIALS = 64  # chosen: a grid beyond this is a slip of the pen more often than a wish
Trial = Mapping[str, Any]  # values by dotted key, as profiles take them


@dataclass(frozen=True)
class Outcome:
    """What one trial of one round gave; `bits_per_byte` is infinite where training failed."""

    trial: Trial
    minutes: float
    bits_per_byte: float
    steps: int = 0
    tokens_per_s: float = 0.0
    error: str = ""

    @property
    def name(self) -> str:
        """The trial's settings as the options that repeat it."""
        return name_of(self.trial)


def name_of(trial: Trial) -> str:
    """Return a trial's settings in one line."""
    return ", ".join(f"{key}={value}" for key, value in trial.items())


def grid(vary: Mapping[str, Any]) -> list[Trial]:
    """Return every combination of the listed values.

    Args:   vary: lists of values by dotted key, all of the table `train`.
    Raises: ConfigError for another table, a value that is no list, or more than MAX_TRIALS combinations.
    """
    if not vary:
        raise ConfigError("vary: nothing to try; give settings with lists, such as train.matrix_lr=[0.01,0.02,0.04]")
    for key, values in vary.items():
        if not key.startswith("train.") or key == "train.minutes":
            raise ConfigError(f"vary {key}: only settings of the table train can differ, and not its minutes")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"vary {key}={values}: expected a list of values, such as {key}=[0.01,0.02]")
    if math.prod(len(values) for values in vary.values()) > MAX_TRIALS:
        raise ConfigError(f"vary: more than {MAX_TRIALS} combinations; list fewer values")
    return [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]


def minutes_of(minutes: float, rounds: int) -> list[float]:
    """Return the minutes of each round: they double, and the last has all of `minutes`."""
    return [minutes / 2 ** (rounds - 1 - turn) for turn in range(rounds)]


def survivors(trials: int, turn: int) -> int:
    """Return how many of `trials` take part in round `turn`, counted from 0."""
    return max(1, math.ceil(trials / (1 << turn)))


def best_of(outcomes: Sequence[Outcome], count: int) -> list[Trial]:
    """Return the `count` trials with the fewest bits per byte; those that failed never go on."""
    alive = [outcome for outcome in outcomes if math.isfinite(outcome.bits_per_byte)]
    return [outcome.trial for outcome in sorted(alive, key=lambda outcome: outcome.bits_per_byte)[:count]]


def table(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """Return the outcomes as rows to show: longest budget first, best first within it."""
    ranked = sorted(outcomes, key=lambda outcome: (-outcome.minutes, outcome.bits_per_byte))
    return [
        {
            "settings": outcome.name,
            "minutes": f"{outcome.minutes:g}",
            "bits per byte": outcome.error or f"{outcome.bits_per_byte:.4f}",
            "steps": str(outcome.steps),
            "tokens/s": f"{outcome.tokens_per_s:.0f}",
        }
        for outcome in ranked
    ]
