"""From a recording to the figures of one cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.bench.histograms import LatencyHistogram
from tinylm.bench.loadgen import Recording, RequestRecord

__all__ = ["LATE_SHARE", "METRICS", "cell_figures", "cell_histograms", "request_columns"]

METRICS = ("queue", "ttft", "itl", "e2e", "service", "lateness", "turnaround")
LATE_SHARE = 0.10  # p99 of lateness over median service time beyond which a cell is void (chosen)

Latencies = dict[str, NDArray[np.int64]]


def cell_histograms(recording: Recording) -> dict[str, LatencyHistogram]:
    """Return one histogram per metric, in ns: see docs/BENCHMARKS.md for each metric's definition."""
    return {name: LatencyHistogram(values) for name, values in _latencies(recording.measured()).items()}


def _latencies(records: Sequence[RequestRecord]) -> Latencies:
    good = [record for record in records if record.outcome.error is None]
    scheduled, submitted, collected, started, first, finished = _times(good)
    gaps = [np.diff(np.asarray(r.outcome.token_times_ns, dtype=np.int64)) for r in good]
    return {
        "queue": started - scheduled,
        "ttft": first - scheduled,
        "itl": np.concatenate(gaps) if gaps else np.zeros(0, np.int64),
        "e2e": finished - scheduled,
        "service": finished - started,
        "lateness": submitted - scheduled,
        "turnaround": collected - finished,
    }


def _times(records: Sequence[RequestRecord]) -> NDArray[np.int64]:
    rows = [
        (r.scheduled_ns, r.submitted_ns, r.collected_ns, o.started_ns, o.first_token_ns, o.finished_ns)
        for r in records
        for o in (r.outcome,)
    ]
    return np.asarray(rows, dtype=np.int64).reshape(len(rows), 6).T


def cell_figures(
    recording: Recording, slots: int, histograms: dict[str, LatencyHistogram], open_load: bool
) -> dict[str, Any]:
    """Return throughput, occupancy, counts and flags of the window.

    A request that spans an edge of the window counts by the share of its service time inside, so a short window over
    long requests is not off by a whole batch.
    """
    window_s = max(1e-9, (recording.stop_ns - recording.start_ns) / 1e9)
    measured = recording.measured()
    good = [record for record in recording.records if record.outcome.error is None]
    *_, started, _, finished = _times(good)
    inside = np.minimum(finished, recording.stop_ns) - np.maximum(started, recording.start_ns)
    busy_ns = np.clip(inside, 0, None)
    shares = busy_ns / np.maximum(finished - started, 1)
    tokens = np.asarray([record.outcome.output_tokens for record in good], dtype=np.float64)
    requests_per_s = float(shares.sum()) / window_s
    return {
        "duration_s": window_s,
        "requests": len(measured),
        "errors": sum(record.outcome.error is not None for record in measured),
        "unfinished": recording.unfinished,
        "prompt_tokens": sum(record.outcome.prompt_tokens for record in measured),
        "output_tokens": sum(record.outcome.output_tokens for record in measured),
        "requests_per_s": requests_per_s,
        "tokens_per_s": float((shares * tokens).sum()) / window_s,
        "arrived_per_s": recording.arrived / window_s,
        "occupancy": float(busy_ns.sum()) / 1e9 / window_s / slots,
        "flags": _flags(recording, requests_per_s * window_s, histograms, open_load),
    }


def _flags(recording: Recording, served: float, histograms: dict[str, LatencyHistogram], open_load: bool) -> list[str]:
    service_ns = max(1, histograms["service"].quantile_ns(50))
    flags = []
    # In a closed loop a late submission lightens the load and hides nothing: there it is no reason to void.
    if open_load and histograms["lateness"].quantile_ns(99) > LATE_SHARE * service_ns:
        flags.append("late-submission")
    if histograms["turnaround"].quantile_ns(99) > LATE_SHARE * service_ns:
        flags.append("slow-collection")
    # Three standard deviations of a Poisson count, and 2 % for the window's edges.
    tolerated = 3 * math.sqrt(recording.arrived) + 0.02 * recording.arrived
    if recording.unfinished or (open_load and recording.arrived - served > tolerated):
        flags.append("overloaded")
    return flags


def request_columns(recording: Recording) -> dict[str, list[Any]]:
    """Return the measured requests column by column; times in ns after the window opened."""
    measured = recording.measured()
    names = ("scheduled_ns", "submitted_ns", "collected_ns", "started_ns", "first_token_ns", "finished_ns")
    times = _times(measured) - recording.start_ns
    columns: dict[str, list[Any]] = {name: row.tolist() for name, row in zip(names, times, strict=True)}
    columns["index"] = [record.outcome.index for record in measured]
    for name in ("prompt_tokens", "output_tokens", "digest", "error"):
        columns[name] = [getattr(record.outcome, name) for record in measured]
    return columns
