"""Charts that set runs side by side: changes with their intervals, and trends over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinylm.bench.compare import Change, Comparison
from tinylm.bench.store import Run
from tinylm.report.figure import Figure, figure
from tinylm.report.svg import Axis, Plot
from tinylm.report.view import RunView
from tinylm.report.words import count_text, duration, percent

__all__ = ["changes", "latency_trend", "trend"]


def changes(comparison: Comparison) -> Figure:
    """Ratio of this run to the one before, per metric, with intervals that hold together at 95 %."""
    known = [*comparison.changes, *([comparison.machine] if comparison.machine else [])]
    ends = [v for change in known for v in (change.ratio, change.low, change.high) if v == v]
    low, high = min([*ends, 0.94]) * 0.99, max([*ends, 1.06]) * 1.01

    def draw(width: int) -> Plot:
        x = Axis("this run over the earlier one", low, high, log=high / low > 3, format=lambda v: f"{v:.3g}×")
        plot = Plot(x, Axis("", 0, len(known), ticks=()), width, 70 + 42 * len(known), left=8)
        plot.vertical(1, "", "ideal")
        for i, change in enumerate(known):
            _row(plot, change, len(known) - i - 0.62)
        return plot

    return figure(
        "changes",
        "Change since the run before",
        draw,
        alt="Ratios with intervals that hold together at 95 %. "
        + "; ".join(f"{c.label}: {c.text}, {c.word}" for c in known),
        caption=f"Against {comparison.run_a}. A change counts beyond {percent(comparison.threshold)}, with an interval "
        "that excludes 1, and where the machine's own speed does not explain it.",
        columns=("metric", "ratio", "low", "high", "verdict", "points"),
        rows=[(c.metric, c.ratio, c.low, c.high, c.word, c.points) for c in known],
    )


def _row(plot: Plot, change: Change, y: float) -> None:
    series = {"slower": 1, "faster": 2}.get(change.word, 0)
    if change.low == change.low:
        plot.line([(change.low, y), (change.high, y)], series)
    plot.dot(change.ratio, y, series, f"{change.label}: {change.text}; {change.word}")
    plot.text(plot.x.low, y, f"{change.label}: {change.word}", anchor="start", dy=-10)


def trend(runs: Sequence[Run]) -> Figure:
    """Best throughput of each run over time."""
    best = [(run, point.median("tokens_per_s") or 0.0) for run in runs if (point := RunView(run).best)]
    label = "tokens per second, best point"
    return _over_time("trend", "Best throughput over time", best, label, count_text, ("tokens_per_s", 1.0))


def latency_trend(runs: Sequence[Run]) -> Figure:
    """Median end-to-end latency of each run's best point over time."""
    known = [(run, point.percentile("e2e", 50)) for run in runs if (point := RunView(run).best)]
    values = [(run, float(value)) for run, value in known if value]
    label = "end to end, median"
    return _over_time("latency-trend", "Latency at best throughput", values, label, duration, ("latency_ms", 1e6))


def _over_time(
    name: str,
    title: str,
    values: Sequence[tuple[Run, float]],
    label: str,
    write: Callable[[float], str],
    column: tuple[str, float],
) -> Figure:
    """Return a figure of one value per run; `column`: the value's name in the data, and what one of its unit is."""
    top = max((value for _, value in values), default=1.0) * 1.12

    def draw(width: int) -> Plot:
        step = max(1, -(-len(values) * 90 // width))
        ticks = tuple((float(i), _day(run)) for i, (run, _) in enumerate(values) if i % step == 0)
        x = Axis("run", -0.5, len(values) - 0.5, ticks=ticks)
        plot = Plot(x, Axis(label, 0, top, format=write), width)
        plot.line([(i, value) for i, (_, value) in enumerate(values)], 0)
        for i, (run, value) in enumerate(values):
            plot.dot(i, value, 0, f"{run.run_id}: {write(value)}")
        return plot

    return figure(
        name,
        title,
        draw,
        alt=f"{title}, last {len(values)} runs: "
        + (f"from {write(values[0][1])} to {write(values[-1][1])}." if values else "no values."),
        caption="Runs of the same work by a model of the same shape on the same machine as the newest.",
        columns=("run_id", column[0]),
        rows=[(run.run_id, value / column[1]) for run, value in values],
    )


def _day(run: Run) -> str:
    created = str(run.facts.get("created_at", run.run_id))
    return created[5:16].replace("T", " ")
