"""Charts of resources: memory, where an engine step's time goes, how late the load generator was."""

from __future__ import annotations

from tinylm.report.chart_parts import replicas_text, speed, stacked
from tinylm.report.figure import Figure
from tinylm.report.view import Family, PointView
from tinylm.report.words import bytes_text, percent

__all__ = ["memory", "step_parts"]

_OWNERS = ("weights", "key/value cache", "everything else", "before loading")


def memory(family: Family) -> Figure | None:
    """Peak resident memory per replica count, by owner; None where it is not known."""
    peaks = [max(family.of_replicas(n), key=lambda p: p.median("peak_rss_bytes") or 0) for n in family.replicas]
    bars = [(replicas_text(point.replicas), _owners(point)) for point in peaks if point.median("peak_rss_bytes")]
    if not bars:
        return None
    return stacked(
        "memory",
        "Peak memory",
        bars,
        _OWNERS,
        ("", "peak resident memory"),
        bytes_text,
        column="bytes",
        alt="Peak resident memory: " + ", ".join(f"{label} {bytes_text(sum(sizes))}" for label, sizes in bars),
        caption="Of the whole worker process. “Before loading” is Python with its libraries.",
    )


def _owners(point: PointView) -> list[float]:
    peak, base = point.median("peak_rss_bytes") or 0.0, point.median("base_rss_bytes") or 0.0
    weights = min(point.median("weights_bytes") or 0.0, max(0.0, peak - base))
    cache = min(point.median("kv_bytes") or 0.0, max(0.0, peak - base - weights))
    return [weights, cache, max(0.0, peak - base - weights - cache), base]


def step_parts(family: Family) -> Figure | None:
    """Where the engine's time goes, per replica count; None where the backend does not say."""
    best = [max(family.of_replicas(n), key=speed) for n in family.replicas]
    known = [(point, _parts(point)) for point in best if _parts(point)]
    if not known:
        return None
    names = sorted({name for _, parts in known for name in parts}, key=lambda n: -sum(p.get(n, 0) for _, p in known))
    bars = [(replicas_text(p.replicas), [parts.get(n, 0) / sum(parts.values()) for n in names]) for p, parts in known]
    return stacked(
        "step",
        "Where an engine step's time goes",
        bars,
        names,
        ("", "share of engine time"),
        percent,
        column="share",
        alt="Share of engine time by part: "
        + "; ".join(
            f"{label}: " + ", ".join(f"{n} {percent(s)}" for n, s in zip(names, sizes, strict=True))
            for label, sizes in bars
        ),
        caption="At the load of highest throughput.",
    )


def _parts(point: PointView) -> dict[str, float]:
    total: dict[str, float] = {}
    for cell in point.cells:
        for name, seconds in (cell["step_s"] or {}).items():
            total[name] = total.get(name, 0.0) + seconds
    return {name: seconds for name, seconds in total.items() if seconds > 0}
