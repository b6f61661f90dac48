"""The highest open-loop rate that keeps a latency bound, per set-up: the server scenario."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.bench.config import CellSpec, SweepConfig
from tinylm.bench.histograms import LatencyHistogram, samples_needed
from tinylm.bench.plan import plan_calibration
from tinylm.bench.store import read_run
from tinylm.bench.sweep import Sweep
from tinylm.errors import ConfigError
from tinylm.progress import ProgressReporter, Task

__all__ = ["Bound", "find_rate"]

_HALVINGS = 6  # of the bracket: the rate is found within about 2 % of capacity
_VERIFICATIONS = 3  # runs that must all keep the bound (LoadGen asks for 5)
_STEP_DOWN = 0.95
_LOWEST_SHARE = 0.05
_MARGIN = 1.15  # arrivals beyond the samples that the percentile needs
_BOUND = re.compile(r"p(?P<percentile>\d+(?:\.\d+)?)_(?P<metric>e2e|ttft|queue)=(?P<value>\d+(?:\.\d+)?)(?P<unit>ms|s)")


@dataclass(frozen=True)
class Bound:
    """A latency bound, such as `p99_e2e=500ms`."""

    metric: str
    percentile: float
    limit_ns: int

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Return the bound that `text` names.

        Raises: ConfigError if it names none.
        """
        found = _BOUND.fullmatch(text.strip())
        if found is None or not 0 < float(found["percentile"]) < 100 or not float(found["value"]):
            raise ConfigError(f"slo: found {text!r}; expected pNN_METRIC=TIME with e2e, ttft or queue: p99_e2e=500ms")
        scale = 1e6 if found["unit"] == "ms" else 1e9
        return cls(found["metric"], float(found["percentile"]), int(float(found["value"]) * scale))

    def kept(self, result: Mapping[str, Any]) -> bool:
        """Return whether a cell kept the bound: enough samples, no backlog, percentile within the limit."""
        if "figures" not in result or {"overloaded", "late-submission"} & set(result["figures"]["flags"]):
            return False
        value = LatencyHistogram.decode(result["histograms"][self.metric]).percentile_ns(self.percentile)
        return value is not None and value <= self.limit_ns


def find_rate(
    cfg: SweepConfig,
    model_path: Path | Sequence[Path] | None,
    out_dir: Path,
    progress: ProgressReporter,
    *,
    slo: str,
    context: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return `{"slo": ..., "rates_rps": {set-up: rate}}`; every probe is a cell of the run written to `out_dir`.

    Raises: ConfigError if `slo` is not a bound; StageError if nothing could be measured.
    """
    bound = Bound.parse(slo)
    models = [model_path] if isinstance(model_path, Path) else list(model_path or [])
    sweep = Sweep(cfg, models, out_dir, {**(context or {}), "slo": slo}, plan=plan_calibration)
    setups = list(sweep.cells)
    rates: dict[str, float] = {}
    with progress.task("rate search", total=len(setups) * (_HALVINGS + _VERIFICATIONS + 1), unit="probes") as task:
        search = _Search(sweep, bound, task)
        for setup in setups:
            rates[setup.setup_id] = search.highest(setup)
    sweep.facts["found_rates_rps"] = rates
    sweep.finish()
    return {"run_id": read_run(out_dir).run_id, "slo": slo, "rates_rps": rates}


class _Search:
    def __init__(self, sweep: Sweep, bound: Bound, task: Task) -> None:
        self._sweep, self._bound, self._task, self._probes = sweep, bound, task, 0

    def highest(self, setup: CellSpec) -> float:
        """Return the highest rate in requests per second that kept the bound every time; 0 when none did."""
        figures = self._run(setup).get("figures", {})
        capacity = float(figures.get("requests_per_s", 0.0))
        low, high = 0.0, capacity
        for _ in range(_HALVINGS if capacity else 0):
            middle = (low + high) / 2
            low, high = (middle, high) if self._probe(setup, middle, 0) else (low, middle)
        while low > _LOWEST_SHARE * capacity:
            if all(self._probe(setup, low, repeat) for repeat in range(1, _VERIFICATIONS + 1)):
                return self._rounded(low)
            low *= _STEP_DOWN
        return 0.0

    def _probe(self, setup: CellSpec, rate_rps: float, repeat: int) -> bool:
        load = f"open:{self._rounded(rate_rps):g}/s"
        cell = setup.model_copy(update={"role": "probe", "load": load, "repeat": repeat})
        if cell not in self._sweep.cells:
            self._sweep.cells.append(cell)
        return self._bound.kept(self._run(cell, _MARGIN * samples_needed(self._bound.percentile) / rate_rps))

    def _run(self, cell: CellSpec, window_s: float | None = None) -> Mapping[str, Any]:
        self._probes += 1
        self._task.update(self._probes)
        return self._sweep.result(cell) if cell not in self._sweep.pending() else self._sweep.run(cell, window_s)

    @staticmethod
    def _rounded(rate_rps: float) -> float:
        return float(f"{rate_rps:.4g}")
