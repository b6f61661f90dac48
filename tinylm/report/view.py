"""A run as the report sees it: repeats of a point gathered, their histograms merged."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tinylm.bench.histograms import LatencyHistogram
from tinylm.bench.measure import METRICS
from tinylm.bench.store import Row, Run

__all__ = ["Family", "PointView", "RunView"]


@dataclass(frozen=True)
class PointView:
    """One engine set-up under one load, over all its good repeats."""

    cells: list[Row]
    histograms: dict[str, LatencyHistogram]

    @property
    def replicas(self) -> int:
        """Engine replicas."""
        return int(self.cells[0]["replicas"])

    @property
    def load(self) -> str:
        """The load as the settings spell it."""
        return str(self.cells[0]["load"])

    @property
    def load_kind(self) -> str:
        """Closed, poisson, fixed or offline."""
        return str(self.cells[0]["load_kind"])

    def values(self, name: str) -> list[float]:
        """Return the known values of a column, one per repeat."""
        return [float(cell[name]) for cell in self.cells if cell[name] is not None]

    def median(self, name: str) -> float | None:
        """Return the median over repeats; None when no repeat knows."""
        values = self.values(name)
        return statistics.median(values) if values else None

    def percentile(self, metric: str, percentile: float) -> int | None:
        """Return a percentile of the merged repeats in ns; None when the samples are too few."""
        histogram = self.histograms.get(metric)
        return histogram.percentile_ns(percentile) if histogram else None


@dataclass(frozen=True)
class Family:
    """All points that differ only in replicas and load."""

    label: str
    points: list[PointView]

    @property
    def replicas(self) -> list[int]:
        """Replica counts, ascending."""
        return sorted({point.replicas for point in self.points})

    def loads(self, *kinds: str) -> list[str]:
        """Return the loads of these kinds, or all; from light to heavy as planned."""
        return list(dict.fromkeys(p.load for p in self.points if not kinds or p.load_kind in kinds))

    def of_load(self, load: str) -> list[PointView]:
        """Return the points of a load, by replicas."""
        return sorted((p for p in self.points if p.load == load), key=lambda point: point.replicas)

    def of_replicas(self, replicas: int) -> list[PointView]:
        """Return the points of a replica count, in the order of loads."""
        return [point for point in self.points if point.replicas == replicas]

    @property
    def best(self) -> PointView:
        """The point of the highest throughput."""
        return max(self.points, key=lambda point: point.median("tokens_per_s") or 0.0)


class RunView:
    """One run, ready for tables and charts."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def families(self) -> list[Family]:
        """Points grouped by everything but replicas and load."""
        names = ("backend", "model", "precision", "threads", "batch")
        groups: dict[tuple[object, ...], dict[str, list[Row]]] = {}
        for cell in self.good:
            group = groups.setdefault(tuple(cell[name] for name in names), {})
            group.setdefault(str(cell["point_id"]), []).append(cell)
        return [Family(_label(key), self._points(group.values())) for key, group in groups.items()]

    @property
    def measured(self) -> list[Row]:
        """Every cell of the grid, failed and void ones too."""
        return [cell for cell in self.run.cells if cell["role"] == "measure"]

    @property
    def good(self) -> list[Row]:
        """Cells whose figures may be used."""
        return [cell for cell in self.measured if cell["status"] == "ok"]

    @property
    def bad(self) -> list[Row]:
        """Void and failed cells, of any role."""
        return [cell for cell in self.run.cells if cell["status"] != "ok"]

    @property
    def best(self) -> PointView | None:
        """The point of the highest throughput of the run; None when nothing succeeded."""
        points = [family.best for family in self.families]
        return max(points, key=lambda point: point.median("tokens_per_s") or 0.0, default=None)

    def _points(self, groups: Iterable[list[Row]]) -> list[PointView]:
        loads = list(self.run.facts.get("settings", {}).get("loads", ()))
        points = [self._point(cells) for cells in groups]
        rank = {load: place for place, load in enumerate(loads)}
        return sorted(points, key=lambda point: (rank.get(point.load, len(rank)), point.load, point.replicas))

    def _point(self, cells: list[Row]) -> PointView:
        merged: dict[str, LatencyHistogram] = {}
        for cell in cells:
            for metric in METRICS:
                if (cell["cell_id"], metric) in self.run.histograms:
                    histogram = self.run.histograms[cell["cell_id"], metric]
                    merged.setdefault(metric, LatencyHistogram()).merge(histogram)
        return PointView(cells, merged)


def _label(key: tuple[object, ...]) -> str:
    backend, model, precision, threads, batch = key
    name = f"{model} {precision}" if precision != "none" else str(backend)
    return f"{name}, {threads} thread{'s' if threads != 1 else ''} and {batch} slots a replica"
