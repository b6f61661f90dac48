"""Is B faster than A? Ratios with confidence intervals over repeats, and a verdict per metric.

The unit of chance is the round (one repeat of every point), not the request: requests of one round share the
machine's mood. Rounds are resampled whole; with few rounds the interval is widened as Student's t asks, and further
because several metrics are judged at once (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinylm.bench.store import Row, Run
from tinylm.errors import DataError

__all__ = ["Change", "Comparison", "bootstrap_ratio", "comparable", "compare_runs", "is_steady"]

Word = Literal["faster", "slower", "no change shown", "not judged"]

_RESAMPLES = 4000
_LEAST_ROUNDS = 3  # fewer say too little about chance for a verdict (chosen)
_BUSY = "the machine was busy"

_METRICS = (
    ("tokens_per_s", "throughput", "higher"),
    ("ttft:50", "time to first token, median", "lower"),
    ("e2e:50", "end to end, median", "lower"),
    ("e2e:99", "end to end, p99", "lower"),
)

_Z = 1.96
# Student's t at 1 - 5 %/2/claims, by degrees of freedom 1..12, then the normal value: one claim, and all metrics.
_T = {
    1: (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 1.960),
    len(_METRICS): (50.923, 8.860, 5.392, 4.315, 3.810, 3.521, 3.335, 3.206, 3.111, 3.038, 2.981, 2.934, 2.498),
}


@dataclass(frozen=True)
class Change:
    """B over A for one metric: ratio, interval (95 % for all metrics together), and what may be said."""

    metric: str
    label: str
    ratio: float
    low: float
    high: float
    word: Word
    points: int
    rounds: tuple[int, int]
    reason: str = ""  # why it is not judged

    @property
    def change_text(self) -> str:
        """The change in per cent."""
        return _percent(self.ratio)

    @property
    def interval_text(self) -> str:
        """The 95 % interval of the change, or why it is not judged."""
        return self.reason or f"{_percent(self.low)} to {_percent(self.high)}"

    @property
    def text(self) -> str:
        """The change in per cent with its interval, for lines of plain text."""
        interval = self.reason or f"95 % interval: {self.interval_text}"
        return f"{self.change_text} ({interval})".replace("\u00a0", " ")


@dataclass(frozen=True)
class Comparison:
    """A against B: changes over all common points, and point by point."""

    run_a: str
    run_b: str
    threshold: float
    changes: list[Change]
    by_point: dict[str, list[Change]]
    machine: Change | None

    @property
    def regressions(self) -> list[Change]:
        """Changes for the worse that are past chance, past the threshold, and not the machine's own."""
        return [change for change in self.changes if change.word == "slower"]

    @property
    def verdict(self) -> Word:
        """One word for the pair of runs."""
        words = [change.word for change in self.changes]
        if "slower" in words:
            return "slower"
        if "faster" in words:
            return "faster"
        return "no change shown" if "no change shown" in words else "not judged"

    @property
    def reason(self) -> str:
        """Why the pair of runs is not judged; empty when it is."""
        return next((change.reason for change in self.changes), "") if self.verdict == "not judged" else ""


def comparable(a: Run, b: Run) -> bool:
    """Return whether a ratio of the runs speaks of the software: same machine, work, shape of model, a common point."""
    same = all(a.facts["machine"].get(key) == b.facts["machine"].get(key) for key in ("cpu", "usable_cores"))
    same = same and _work(a) == _work(b) and _shapes(a) == _shapes(b)
    return same and bool(_points(a) & _points(b))


def is_steady(run: Run) -> bool:
    """Return whether `run` can be judged: rounds enough, on a machine that was not busy."""
    rounds = {int(cell["repeat"]) for cell in _good(run)}
    return len(rounds) >= _LEAST_ROUNDS and not _mostly_busy(run, sorted(_points(run)))


def compare_runs(a: Run, b: Run, threshold: float = 0.05) -> Comparison:
    """Return how run `b` differs from run `a` on the points they share.

    Args: threshold: smallest change that counts, as a share (0.05: five per cent).
    Raises: DataError if the runs share no point, or if what they asked for is not the same.
    """
    if different := [key for key, value in _work(a).items() if value != _work(b)[key]]:
        raise DataError(f"{a.run_id} and {b.run_id} asked for different work: their {' and '.join(different)} differ")
    points = sorted(_points(a) & _points(b))
    if not points:
        raise DataError(f"{a.run_id} and {b.run_id}: no measured point in common")
    machine = _change(a, b, points, "yardstick", "the machine itself", "higher", threshold, None)
    busy = _mostly_busy(a, points) or _mostly_busy(b, points)

    def judged(points: Sequence[str]) -> list[Change]:
        found = [_change(a, b, points, *metric, threshold, machine) for metric in _METRICS]
        return [replace(change, word="not judged", reason=_BUSY) if busy else change for change in found if change]

    return Comparison(
        a.run_id, b.run_id, threshold, judged(points), {point: judged([point]) for point in points}, machine
    )


def bootstrap_ratio(
    a: NDArray[np.float64], b: NDArray[np.float64], *, claims: int = 1, seed: int = 0
) -> tuple[float, float, float]:
    """Return geometric-mean ratio b/a with the ends of its 95 % interval.

    Args: a, b: logarithms, (rounds, points), at least two rounds; NaN where a round lacks a point.
          claims: how many intervals must hold together at 95 %: 1, or the number of metrics that runs are compared in.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    centre = float(np.nanmean(np.nanmean(b, axis=0) - np.nanmean(a, axis=0)))
    draws = _means(b, rng) - _means(a, rng)
    low, high = np.nanquantile(draws, [0.025, 0.975]) - np.nanmedian(draws)
    table = _T[claims]
    widen = math.sqrt(max(len(a) / (len(a) - 1), len(b) / (len(b) - 1)))
    widen *= table[min(len(a) + len(b) - 2, len(table)) - 1] / _Z
    return math.exp(centre), math.exp(centre + float(low) * widen), math.exp(centre + float(high) * widen)


def _means(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the mean over points of each resample's mean over rounds, (resamples,)."""
    picks = rng.integers(0, len(values), (_RESAMPLES, len(values)))
    with np.errstate(invalid="ignore"):
        counts = np.isfinite(values)[picks].sum(axis=1)
        means = np.nansum(values[picks], axis=1) / np.where(counts, counts, np.nan)
        known = np.isfinite(means).sum(axis=1)
        return np.asarray(np.nansum(means, axis=1) / np.where(known, known, np.nan))


def _change(
    a: Run,
    b: Run,
    points: Sequence[str],
    metric: str,
    label: str,
    better: str,
    threshold: float,
    machine: Change | None,
) -> Change | None:
    matrix_a, matrix_b = _matrix(a, points, metric), _matrix(b, points, metric)
    both = np.isfinite(matrix_a).any(axis=0) & np.isfinite(matrix_b).any(axis=0)
    if not both.any():
        return None
    matrix_a, matrix_b = _rounds_with_values(matrix_a[:, both]), _rounds_with_values(matrix_b[:, both])
    rounds = (len(matrix_a), len(matrix_b))
    if min(rounds) < _LEAST_ROUNDS:
        ratio = math.exp(float(np.nanmean(np.nanmean(matrix_b, axis=0) - np.nanmean(matrix_a, axis=0))))
        reason = f"{min(rounds)} of the {_LEAST_ROUNDS} rounds that a verdict needs"
        return Change(metric, label, ratio, math.nan, math.nan, "not judged", int(both.sum()), rounds, reason)
    ratio, low, high = bootstrap_ratio(matrix_a, matrix_b, claims=len(_METRICS))
    word = _word(ratio, low, high, better, threshold, machine)
    return Change(metric, label, ratio, low, high, word, int(both.sum()), rounds)


def _rounds_with_values(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop rounds without any value: a percentile that most rounds withheld says nothing about chance."""
    return matrix[np.isfinite(matrix).any(axis=1)]


def _word(ratio: float, low: float, high: float, better: str, threshold: float, machine: Change | None) -> Word:
    """Judge in terms of speed; a change that the machine's own explains is none."""
    speed, slow_end, fast_end = (ratio, low, high) if better == "higher" else (1 / ratio, 1 / high, 1 / low)
    machine_ratio = machine.ratio if machine else 1.0
    if fast_end < 1 and max(speed, speed / machine_ratio) < 1 - threshold:
        return "slower"
    if slow_end > 1 and min(speed, speed / machine_ratio) > 1 + threshold:
        return "faster"
    return "no change shown"


def _work(run: Run) -> dict[str, Any]:
    """Return what every request asked for."""
    settings = run.facts.get("settings", {})
    return {key: settings.get(key) for key in ("options", "prompts")}


def _shapes(run: Run) -> list[Any]:
    """Return the models as far as speed depends on them: new weights in an old shape cost the same."""
    return [(model.get("config"), model.get("precision")) for model in run.facts.get("models", [])]


def _good(run: Run) -> list[Row]:
    return [cell for cell in run.cells if cell["role"] == "measure" and cell["status"] == "ok"]


def _mostly_busy(run: Run, points: Sequence[str]) -> bool:
    """Return whether other work spoiled most of the cells at `points`: such a run tells of the machine's day."""
    cells = [cell for cell in run.cells if cell["role"] == "measure" and cell["status"] != "failed"]
    shared = [cell for cell in cells if _point(cell) in points]
    spoiled = [cell for cell in shared if cell["status"] == "void" or "busy-machine" in (cell["flags"] or ())]
    return len(spoiled) * 2 > len(shared)


def _points(run: Run) -> set[str]:
    return {_point(cell) for cell in _good(run)}


def _point(cell: Row) -> str:
    return str(cell["point_id"])


def _matrix(run: Run, points: Sequence[str], metric: str) -> NDArray[np.float64]:
    """Return the logarithms of `metric`, (rounds, points)."""
    cells = _good(run)
    rounds = sorted({int(cell["repeat"]) for cell in cells})
    matrix = np.full((max(1, len(rounds)), len(points)), np.nan)
    for cell in cells:
        value = _value(run, cell, metric)
        if _point(cell) in points and value:
            matrix[rounds.index(int(cell["repeat"])), points.index(_point(cell))] = math.log(value)
    return matrix


def _value(run: Run, cell: Row, metric: str) -> float | None:
    name, _, percentile = metric.partition(":")
    if not percentile:
        # An open loop's throughput is what was asked for, not what could be done.
        known: Any = cell[name] if name != "tokens_per_s" or cell["load_kind"] in ("closed", "offline") else None
        return None if known is None else float(known)
    histogram = run.histograms.get((cell["cell_id"], name))
    value = histogram.percentile_ns(float(percentile)) if histogram else None
    return None if value is None else float(value)


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f}\u00a0%".replace("-", "\u2212")
