"""Charts of throughput: scaling over replicas, efficiency, and the share of the machine's limit."""

from __future__ import annotations

from collections.abc import Sequence

from tinylm.report.chart_parts import load_name, replica_axis, replicas_text, speed, tip
from tinylm.report.figure import Figure, figure
from tinylm.report.svg import Axis, Plot
from tinylm.report.view import Family
from tinylm.report.words import count_text, percent

__all__ = ["efficiency", "limits", "scaling"]


def scaling(family: Family) -> Figure:
    """Throughput against replica count, with the line of ideal scaling."""
    loads = family.loads("closed", "offline") or family.loads()
    groups = [family.of_load(load) for load in loads]
    first = max((g[0] for g in groups if g[0].replicas == family.replicas[0]), key=speed, default=family.best)
    top = max(max(point.values("tokens_per_s"), default=0.0) for group in groups for point in group)
    ideal = [(float(n), speed(first) * n / first.replicas) for n in family.replicas]

    def draw(width: int) -> Plot:
        plot = Plot(replica_axis(family), Axis("tokens per second", 0, top * 1.12, format=count_text), width)
        plot.line([(x, min(y, top * 1.12)) for x, y in _clip(ideal, top * 1.12)], "ideal", dashed=True)
        for series, group in enumerate(groups):
            plot.line([(p.replicas, speed(p)) for p in group], series)
            for point in group:
                for value in point.values("tokens_per_s"):
                    plot.dot(point.replicas, value, series, f"one repeat: {count_text(value)} tokens/s", small=True)
                plot.dot(point.replicas, speed(point), series, tip(point, f"{count_text(speed(point))} tokens/s"))
        return plot

    best, points = family.best, [point for group in groups for point in group]
    rows = [(p.replicas, p.load, speed(p), i, v) for p in points for i, v in enumerate(p.values("tokens_per_s"))]
    return figure(
        "scaling",
        "Throughput against replicas",
        draw,
        alt="Tokens per second by replica count. "
        f"Highest: {count_text(speed(best))} with {replicas_text(best.replicas)}, {load_name(best.load)}.",
        caption="Large marks: medians; faint marks: single repeats; dashed: ideal scaling from the smallest count.",
        columns=("replicas", "load", "median_tokens_per_s", "repeat", "tokens_per_s"),
        rows=rows,
        legend=[(load_name(load), series) for series, load in enumerate(loads)],
    )


def _clip(points: Sequence[tuple[float, float]], top: float) -> list[tuple[float, float]]:
    """End a rising line where it leaves the chart."""
    out: list[tuple[float, float]] = []
    for (x, y), (before_x, before_y) in zip(points, [points[0], *points], strict=False):
        if y <= top:
            out.append((x, y))
            continue
        share = (top - before_y) / (y - before_y)
        return [*out, (before_x + share * (x - before_x), top)]
    return out


def efficiency(family: Family) -> Figure:
    """Throughput per replica, relative to the smallest replica count."""
    loads = family.loads("closed", "offline") or family.loads()
    groups = [group for group in map(family.of_load, loads) if len(group) > 1]
    shares = {
        (p.load, p.replicas): speed(p) * group[0].replicas / (speed(group[0]) or 1) / p.replicas
        for group in groups
        for p in group
    }
    top = max([1.0, *shares.values()]) * 1.1

    def draw(width: int) -> Plot:
        plot = Plot(replica_axis(family), Axis("share of ideal scaling", 0, top, format=percent), width)
        plot.horizontal(1, "ideal", "ideal")
        for group in groups:
            series = loads.index(group[0].load)
            plot.line([(p.replicas, shares[p.load, p.replicas]) for p in group], series)
            for p in group:
                share = shares[p.load, p.replicas]
                plot.dot(p.replicas, share, series, tip(p, f"{percent(share)} of ideal"))
        return plot

    return figure(
        "efficiency",
        "Efficiency against replicas",
        draw,
        alt="Throughput per replica as a share of that of the smallest replica count.",
        caption="More replicas than cores cannot scale; one client uses one replica whatever their number.",
        columns=("replicas", "load", "share_of_ideal"),
        rows=[(n, load, share) for (load, n), share in shares.items()],
        legend=[(load_name(load), series) for series, load in enumerate(loads)],
    )


def limits(family: Family) -> Figure | None:
    """Best tokens per second per replica count, beside what the machine's limits allow."""
    best = [max(family.of_replicas(n), key=speed) for n in family.replicas]
    best = [point for point in best if point.median("limit_tokens_per_s")]
    if not best:
        return None
    top = max(max(speed(p), p.median("limit_tokens_per_s") or 0) for p in best) * 1.1

    def draw(width: int) -> Plot:
        ticks = tuple((i + 0.5, str(p.replicas)) for i, p in enumerate(best))
        plot = Plot(
            Axis("replicas", 0, len(best), ticks=ticks), Axis("tokens per second", 0, top, format=count_text), width
        )
        for i, p in enumerate(best):
            limit = p.median("limit_tokens_per_s") or 0.0
            limit_tip = f"{replicas_text(p.replicas)}: limit {count_text(limit)} tokens/s"
            plot.bar(i + 0.18, i + 0.82, 0, limit, "limit", limit_tip)
            plot.bar(
                i + 0.26,
                i + 0.74,
                0,
                speed(p),
                family.replicas.index(p.replicas),
                tip(p, f"{count_text(speed(p))} tokens/s"),
            )
            plot.text(i + 0.5, limit, percent(speed(p) / limit), dy=-5)
        return plot

    return figure(
        "limits",
        "Throughput against the machine's limit",
        draw,
        alt="Best tokens per second per replica count as a share of what the machine's measured limits allow: "
        + ", ".join(
            f"{replicas_text(p.replicas)} {percent(speed(p) / (p.median('limit_tokens_per_s') or 1))}" for p in best
        ),
        caption="Outer bar: the limit set by arithmetic and by reading the weights; inner bar: reached.",
        columns=("replicas", "load", "tokens_per_s", "limit_tokens_per_s"),
        rows=[(p.replicas, p.load, speed(p), p.median("limit_tokens_per_s")) for p in best],
    )
