"""Charts of latency: histograms, percentile curves, latency against load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinylm.bench.histograms import PERCENTILES, LatencyHistogram, samples_needed
from tinylm.report.chart_parts import load_name, replicas_text, slug, tip
from tinylm.report.figure import Figure, figure, multiples
from tinylm.report.svg import Axis, Plot
from tinylm.report.view import Family, PointView
from tinylm.report.words import count_text, duration, percent, rate

__all__ = ["histograms", "latency_against_load", "percentile_curves"]

_BINS = 42
_MS = 1e6
Shares = NDArray[np.float64]


def histograms(family: Family, load: str, metric: str = "e2e") -> Figure:
    """Latency histogram per replica count: small multiples over one log axis."""
    points = [point for point in family.of_load(load) if point.histograms[metric].count]
    low, high = _range([point.histograms[metric] for point in points])
    edges = np.geomspace(low, high, _BINS + 1)
    bins = [_rebin(point.histograms[metric], edges) for point in points]
    top = max(float(shares.max()) for shares in bins) * 1.3
    draws = [
        (_panel_name(point, metric), _histogram_panel(point.histograms[metric], shares, edges, top, point.replicas))
        for point, shares in zip(points, bins, strict=True)
    ]
    series = {point.replicas: i for i, point in enumerate(points)}
    rows = [
        (p.replicas, float(edges[i] / _MS), float(edges[i + 1] / _MS), float(shares[i]))
        for p, shares in zip(points, bins, strict=True)
        for i in range(_BINS)
        if shares[i]
    ]
    medians = ", ".join(f"{replicas_text(p.replicas)} {duration(p.percentile(metric, 50))}" for p in points)
    return multiples(
        f"histogram-{metric}-{slug(load)}",
        f"{load_name(load).capitalize()}",
        [
            (heading, _coloured(draw, family.replicas.index(n)))
            for (heading, draw), n in zip(draws, series, strict=True)
        ],
        alt=f"Distribution of end-to-end latency under {load_name(load)}. Medians: {medians}.",
        columns=("replicas", "from_ms", "to_ms", "share_of_requests"),
        rows=rows,
    )


def _coloured(draw: Callable[[int, int], Plot], series: int) -> Callable[[int], Plot]:
    return lambda width: draw(width, series)


def _panel_name(point: PointView, metric: str) -> str:
    return f"{replicas_text(point.replicas)} · n = {count_text(point.histograms[metric].count)}"


def _histogram_panel(
    histogram: LatencyHistogram, shares: Shares, edges: Shares, top: float, replicas: int
) -> Callable[[int, int], Plot]:
    def draw(width: int, series: int) -> Plot:
        x = Axis("end-to-end latency", float(edges[0]), float(edges[-1]), log=True, format=_short_duration)
        plot = Plot(
            x, Axis("share of requests", 0, top, format=lambda v: percent(v, 0 if top > 0.05 else 1)), width, 220
        )
        for i in np.flatnonzero(shares).tolist():
            tip = f"{duration(edges[i])} to {duration(edges[i + 1])}: {percent(shares[i], 1)} of requests"
            plot.bar(edges[i], edges[i + 1], 0, shares[i], series, f"{replicas_text(replicas)}; {tip}")
        for level, p in enumerate(PERCENTILES[:3]):
            value = histogram.percentile_ns(p)
            if value is not None:
                plot.vertical(value, f"p{p:g} {duration(value)}", "mark-rule", level)
        return plot

    return draw


def _short_duration(value_ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value_ns >= size * 0.9995:
            return f"{value_ns / size:g} {unit}"
    return f"{value_ns:g} ns"


def _range(group: Sequence[LatencyHistogram]) -> tuple[float, float]:
    """Return a log range that holds all values with some air."""
    low, high = min(h.min_ns for h in group), max(h.max_ns for h in group)
    low = max(low, 1)
    air = max(1.12, (high / low) ** 0.06)
    return low / air, high * air


def _rebin(histogram: LatencyHistogram, edges: Shares) -> Shares:
    lows, counts = histogram.buckets()
    shares, _ = np.histogram(np.maximum(lows, 1), bins=edges, weights=np.asarray(counts, float))
    return np.asarray(shares / max(1, histogram.count))


def percentile_curves(family: Family, load: str, metric: str = "e2e") -> Figure:
    """Latency by percentile, stretched towards the tail; drawn no further than the samples carry."""
    points = [point for point in family.of_load(load) if point.histograms[metric].count >= samples_needed(50)]
    curves = [(point, _curve(point.histograms[metric])) for point in points]
    values = [value for _, curve in curves for _, value in curve]
    end = max(curve[-1][0] for _, curve in curves)
    low, high = min(values) / 1.1, max(values) * 1.1

    def draw(width: int) -> Plot:
        ticks = tuple((_stretch(p), f"{p:g} %") for p in (0, 50, 90, 99, 99.9, 99.99) if _stretch(p) <= end + 1e-9)
        y = Axis("end-to-end latency", low, high, log=high / low > 5, format=_short_duration)
        plot = Plot(Axis("percentile of requests", 0, end, ticks=ticks), y, width)
        for point, curve in curves:
            series = family.replicas.index(point.replicas)
            plot.line(curve, series)
            for p in PERCENTILES:
                value = point.percentile(metric, p)
                if value is not None and _stretch(p) <= end + 1e-9:
                    plot.dot(_stretch(p), value, series, f"{replicas_text(point.replicas)}: p{p:g} {duration(value)}")
        return plot

    return figure(
        f"percentiles-{slug(load)}",
        f"Percentiles: {load_name(load)}",
        draw,
        alt=f"End-to-end latency by percentile under {load_name(load)}, one line per replica count.",
        columns=("replicas", "percentile", "latency_ms"),
        rows=[(p.replicas, 100 * (1 - 10**-x), y / _MS) for p, curve in curves for x, y in curve],
        legend=[(replicas_text(point.replicas), family.replicas.index(point.replicas)) for point, _ in curves],
    )


def _stretch(percentile: float) -> float:
    return -math.log10(1 - percentile / 100)


def _curve(histogram: LatencyHistogram) -> list[tuple[float, float]]:
    """Return (stretched percentile, ns) up to the last percentile with ten values beyond it."""
    end = math.log10(histogram.count / 10)
    return [(float(x), float(histogram.quantile_ns(100 * (1 - 10**-x)))) for x in np.linspace(0, end, 60)]


def latency_against_load(family: Family) -> Figure:
    """Median and p90 latency against the requests served per second."""
    groups = [sorted(family.of_replicas(n), key=_served) for n in family.replicas]
    known = [(p, q, p.percentile("e2e", q)) for p in family.points for q in (50.0, 90.0)]
    values = [float(value) for *_, value in known if value]
    low, high = min(values) / 1.2, max(values) * 1.2
    right = max(_served(point) for point in family.points) * 1.06

    def draw(width: int) -> Plot:
        x = Axis("requests served per second", 0, right)
        plot = Plot(x, Axis("end-to-end latency", low, high, log=True, format=_short_duration), width)
        for series, group in enumerate(groups):
            for q, dashed in ((50.0, False), (90.0, True)):
                at = [(_served(p), float(v), p) for p in group if (v := p.percentile("e2e", q))]
                plot.line([(a, b) for a, b, _ in at], series, dashed=dashed)
                for a, b, p in at:
                    plot.dot(a, b, series, tip(p, f"{rate(a)} requests/s, p{q:g} {duration(b)}"), small=dashed)
        return plot

    return figure(
        "load",
        "Latency against load",
        draw,
        alt="Median and 90th percentile of end-to-end latency against requests served per second, per replica count.",
        caption="Solid: median; dashed: p90, where there are samples enough. Each mark is one load.",
        columns=("replicas", "load", "requests_per_s", "percentile", "latency_ms"),
        rows=[(p.replicas, p.load, _served(p), q, v / _MS if v else None) for p, q, v in known],
        legend=[(replicas_text(n), series) for series, n in enumerate(family.replicas)],
    )


def _served(point: PointView) -> float:
    return point.median("requests_per_s") or 0.0
