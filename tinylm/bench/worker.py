"""One cell in one fresh process: a job as JSON on standard input, its result as JSON on standard output.

Imports neither Prefect nor PyTorch nor pyarrow, so peak memory and timing are the engine's own.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from tinylm.bench.activity import Activity, Counters, judge_activity, peak_rss_bytes
from tinylm.bench.arrivals import open_source
from tinylm.bench.audit_cells import ChosenRequests, audit_prompts
from tinylm.bench.backend import Backend
from tinylm.bench.config import CellSpec, Load, SweepConfig
from tinylm.bench.loadgen import Recording, Window, drive
from tinylm.bench.measure import cell_figures, cell_histograms, request_columns
from tinylm.bench.null_backend import DelayedBackend, NullBackend
from tinylm.bench.peers.adapters.harness import end_with_parent
from tinylm.bench.yardstick import yardstick
from tinylm.config import Config, GenerateOptions

__all__ = ["CellJob", "run_job"]

_AUDIT_OPTIONS = GenerateOptions(max_new_tokens=4, ignore_eos=True)  # mostly prefill: that is what a cache would spare


class CellJob(Config):
    """What a worker needs to know: the cell, the sweep's settings, the model file and the rate in force."""

    cell: CellSpec
    sweep: SweepConfig
    model: Path | None = None
    rate_rps: float | None = None
    window_s: float | None = None
    indices: tuple[int, ...] | None = Field(None, description="offline: the requests to answer, by number")


def run_job(job: CellJob) -> dict[str, Any]:
    """Return the cell's figures, histograms and requests as plain values."""
    speed_before = yardstick()
    base_rss = psutil.Process().memory_info().rss
    loading_s = time.monotonic()
    backend = _open_backend(job)
    load_s = time.monotonic() - loading_s
    try:
        _touch(backend, job.cell.replicas)
        _put_generator_first()
        edges: list[tuple[Counters, Mapping[str, float]]] = []
        recording = _drive(backend, job, lambda: edges.append((Counters.read(), backend.step_s())))
        facts = dict(backend.facts())
    finally:
        backend.close()
    speed = (speed_before + yardstick()) / 2
    (before, parts_before), (after, parts_after) = edges
    facts["step_s"] = {part: seconds - parts_before[part] for part, seconds in parts_after.items()}
    facts |= {"load_s": load_s, "base_rss_bytes": base_rss, "peak_rss_bytes": peak_rss_bytes(), "yardstick": speed}
    return _result(job, recording, Activity.between(before, after), backend.slots) | {"facts": facts}


def _open_backend(job: CellJob) -> Backend:
    cell, cfg = job.cell, job.sweep
    backend: Backend
    if cell.backend == "null":
        backend = NullBackend(cfg.null, cell.replicas * cell.batch, seed=cell.repeat)
    else:
        from tinylm.bench.native_backend import NativeBackend

        assert job.model is not None
        backend = NativeBackend(
            job.model,
            replicas=cell.replicas,
            threads=cell.threads,
            batch=cell.batch,
            isa=cfg.isa,
            prompts=audit_prompts(cell.prompts) or cfg.prompts,
            options=_AUDIT_OPTIONS if cell.prompts != "sweep" else cfg.options,
            seeds=cfg.seeds,
        )
    if job.indices is not None:
        backend = ChosenRequests(backend, job.indices)
    return DelayedBackend(backend, cfg.handicap_ms) if cfg.handicap_ms else backend


def _touch(backend: Backend, replicas: int) -> None:
    """Answer a few requests before any clock starts, so that first-use costs are not in the figures."""
    for index in range(replicas):
        backend.submit(index)
    done = 0
    while done < replicas:
        done += len(backend.collect(1.0))


def _put_generator_first() -> None:
    """Let this thread have a core the moment that a request is due, though the engine's threads may fill them all."""
    me = threading.get_native_id()
    for thread in psutil.Process().threads():
        if thread.id != me:
            with contextlib.suppress(OSError):  # a thread that has just ended, or a sandbox that forbids it
                os.sched_setscheduler(thread.id, os.SCHED_IDLE, os.sched_param(0))
    gc.disable()  # a pause in the middle of arrivals; what a cell gathers holds no cycles


def _drive(backend: Backend, job: CellJob, at_edge: Callable[[], None]) -> Recording:
    cfg, load = job.sweep, Load.parse(job.cell.load)
    offline = load.kind == "offline"
    window = Window(
        warmup_s=0.0 if offline else cfg.warmup_s,
        min_duration_s=job.window_s or cfg.min_duration_s,
        min_requests=cfg.min_requests,
        max_duration_s=max(job.window_s or 0.0, cfg.max_duration_s),
        all_at_once=offline,
    )
    begin_ns = backend.now_ns()
    source = open_source(load, job.rate_rps, begin_ns, [cfg.seeds.arrivals, job.cell.repeat])
    return drive(backend, source, window, begin_ns, at_edge)


def _result(job: CellJob, recording: Recording, activity: Activity, slots: int) -> dict[str, Any]:
    histograms = cell_histograms(recording)
    open_load = Load.parse(job.cell.load).kind in ("poisson", "fixed")
    figures = cell_figures(recording, slots, histograms, open_load)
    figures["flags"] = figures["flags"] + judge_activity(activity)
    figures["status"] = "void" if "late-submission" in figures["flags"] else "ok"
    requests = request_columns(recording)
    if job.indices is not None:
        requests["index"] = [job.indices[index] for index in requests["index"]]
    return {
        "figures": figures,
        "activity": {name: getattr(activity, name) for name in activity.__slots__},
        "histograms": {name: histogram.encode() for name, histogram in histograms.items()},
        "requests": requests,
    }


def main() -> None:
    """Read a job, run it, write the result as the last line of standard output."""
    end_with_parent(int(sys.argv[1]))
    job = CellJob.model_validate_json(sys.stdin.read())
    sys.stdout.write(json.dumps(run_job(job)) + "\n")


if __name__ == "__main__":
    main()
