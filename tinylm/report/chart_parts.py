"""What the charts of a benchmark report share: names of loads and points, the replica axis, stacked bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinylm.report.figure import Figure, figure
from tinylm.report.svg import Axis, Plot
from tinylm.report.view import Family, PointView

__all__ = ["load_name", "replica_axis", "replicas_text", "slug", "speed", "stacked", "tip"]


def load_name(load: str) -> str:
    """Return a load as people say it."""
    kind, _, amount = load.partition(":")
    if kind == "closed":
        return "1 client" if amount == "1" else f"{amount} clients"
    if kind == "offline":
        return f"{amount} requests at once"
    of = f"{amount} of capacity" if amount.endswith("%") else f"{amount.removesuffix('/s')} requests/s"
    return f"open, {of}" if kind == "open" else f"evenly spaced, {of}"


def replicas_text(count: int) -> str:
    """Return `1 replica` or `n replicas`."""
    return "1 replica" if count == 1 else f"{count} replicas"


def slug(load: str) -> str:
    """Return a load as part of a file name."""
    return load.replace(":", "-").replace("%", "pct").replace("/s", "rps")


def speed(point: PointView) -> float:
    """Return the median throughput in tokens per second."""
    return point.median("tokens_per_s") or 0.0


def tip(point: PointView, words: str) -> str:
    """Return what a mark of `point` says of itself."""
    return f"{replicas_text(point.replicas)}, {load_name(point.load)}: {words}"


def replica_axis(family: Family) -> Axis:
    """Return the axis of replica counts."""
    counts = family.replicas
    ticks = tuple((float(count), str(count)) for count in counts)
    margin = 0.06 * (counts[-1] - counts[0]) or 0.5
    return Axis("replicas", counts[0] - margin, counts[-1] + margin, ticks=ticks)


def stacked(
    name: str,
    title: str,
    bars: Sequence[tuple[str, Sequence[float]]],
    parts: Sequence[str],
    axis: tuple[str, str],
    write: Callable[[float], str],
    *,
    column: str,
    alt: str,
    caption: str = "",
) -> Figure:
    """Return a figure of stacked bars.

    Args: bars: (label, size of each part); axis: labels of x and y; column: name of the sizes in the data.
    """
    top = max(sum(sizes) for _, sizes in bars) * 1.1

    def draw(width: int) -> Plot:
        ticks = tuple((i + 0.5, label) for i, (label, _) in enumerate(bars))
        plot = Plot(Axis(axis[0], 0, len(bars), ticks=ticks), Axis(axis[1], 0, top, format=write), width)
        for i, (label, sizes) in enumerate(bars):
            base = 0.0
            for series, (part, size) in enumerate(zip(parts, sizes, strict=True)):
                if size > 0:
                    plot.bar(i + 0.22, i + 0.78, base, base + size, series, f"{label}: {part} {write(size)}")
                base += size
            plot.text(i + 0.5, base, write(base), dy=-5)
        return plot

    return figure(
        name,
        title,
        draw,
        alt=alt,
        caption=caption,
        columns=("bar", "part", column),
        rows=[(label, part, size) for label, sizes in bars for part, size in zip(parts, sizes, strict=True)],
        legend=[(part, series) for series, part in enumerate(parts)],
    )
