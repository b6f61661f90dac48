"""Interleaved rounds over engines and workloads: every engine once per round, in an order of the round's own."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tinylm
from tinylm.bench.limits import MachineLimits
from tinylm.bench.machine import machine_facts
from tinylm.bench.models import weights_bytes
from tinylm.bench.peers.engines import ENGINES, Engine, convert
from tinylm.bench.peers.models import make_sources
from tinylm.bench.peers.resume import identity, kept_run, one_at_a_time
from tinylm.bench.peers.workloads import WORKLOADS, Workload
from tinylm.bench.store import Row, Run, write_run
from tinylm.errors import ConfigError, StageError
from tinylm.presets import preset
from tinylm.progress import ProgressReporter

__all__ = ["PEER_PRESETS", "run_peers"]

PEER_PRESETS = ("slm-51m", "llama-20m", "llama-8m")
_LIMIT_S = 900
_ROOT = Path(tinylm.__file__).resolve().parents[1]


@dataclass(frozen=True)
class _Case:
    engine: Engine
    preset: str
    workload: Workload
    repeat: int


def run_peers(
    work_dir: Path,
    peers_env: Path,
    out_dir: Path,
    progress: ProgressReporter,
    *,
    presets: Sequence[str] = PEER_PRESETS,
    rounds: int = 5,
    workloads: Sequence[Workload] = WORKLOADS,
    seed: int = 0,
    context: Mapping[str, Any] | None = None,
    measure_limits: Callable[[], MachineLimits] | None = None,
) -> dict[str, Any]:
    """Convert each preset for each engine, run the workloads in rounds, write the tables to `out_dir` after each.

    Args: work_dir: where converted models are kept for the next time.
          peers_env: the peers' virtual environment.
          out_dir: a new folder, or one that `stopped_run` found: then its rounds are kept, and the others follow.
          measure_limits: measures the machine, once per round; the highest rates are the limits of all rounds.
    Returns: run_id, cells, and for each engine that is missing somewhere the reason.
    Raises: ConfigError for an unknown preset, or where `peers_env` is no virtual environment; StageError if not even
            TinyLM's own engine ran, another comparison runs with `work_dir`, `out_dir` holds one of other settings, or
            program or packages changed; DataError if what `out_dir` holds is damaged.
    """
    work_dir, peers_env = work_dir.absolute(), peers_env.absolute()  # engines run in folders of their own
    _check_settings(peers_env, presets)
    with one_at_a_time(work_dir), _gone_if_empty(out_dir):
        identify = partial(identity, peers_env, presets, rounds, seed, workloads)
        shared = identify()
        kept = kept_run(out_dir, shared)
        facts = dict(kept.facts) if kept else _facts(presets, shared, context or {})
        cells = _kept_cells(kept, presets, workloads) if kept else []
        problems = _prepare(work_dir, peers_env, presets, progress)

        def measure(case: _Case) -> dict[str, Any]:
            problem = problems.get((case.engine.name, case.preset))
            return {"error": problem} if problem else _measure(case, work_dir, peers_env)

        plans = [_plan(presets, workloads, repeat) for repeat in range(rounds)]
        write = partial(_write, out_dir, facts, identify)
        rows = _run_rounds(_in_order(plans, seed), cells, facts, write, measure, measure_limits, progress)
    _check_own(rows)
    missing = {f"{engine} {name}": reason for (engine, name), reason in problems.items()}
    return {"run_id": facts["run_id"], "cells": len(rows), "missing": missing}


def _check_settings(peers_env: Path, presets: Sequence[str]) -> None:
    """Raise ConfigError for what would else be noticed after minutes of conversion."""
    for name in presets:
        preset(name)
    python = peers_env / "bin" / "python"
    if not python.exists():
        raise ConfigError(f"env: no {python}; expected the peers' virtual environment: `make bench-peers` makes one")


def _check_own(rows: Sequence[Row]) -> None:
    own = [row for row in rows if row["backend"] == "tinylm"]
    if not any(row["status"] == "ok" for row in own):
        raise StageError(f"peers: the native engine did not run: {own[0]['error']}")


def _write(
    out_dir: Path, facts: Mapping[str, Any], identify: Callable[[], Mapping[str, Any]], rows: Sequence[Row]
) -> None:
    """Write the tables; raise StageError if what all rounds must share is no longer what `facts` say."""
    if any(facts[name] != value for name, value in identify().items()):
        raise StageError("peers: the program or the peers' packages changed during a round, which is not kept")
    write_run(out_dir, facts, rows, {}, {})


@contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def _run_rounds(
    plans: Sequence[Sequence[_Case]],
    cells: list[tuple[_Case, Row]],
    facts: dict[str, Any],
    write: Callable[[Sequence[Row]], None],
    measure: Callable[[_Case], dict[str, Any]],
    measure_limits: Callable[[], MachineLimits] | None,
    progress: ProgressReporter,
) -> list[Row]:
    """Run the rounds that `cells` lacks, write all rows after each, and return them."""
    limits = MachineLimits.model_validate(facts["limits"]) if facts.get("limits") else None
    rows = [row for _, row in cells]
    with progress.task("peers", total=sum(map(len, plans)), unit="cells") as task:
        task.update(len(cells))
        for plan in plans[facts["rounds_done"] :]:
            if measure_limits:
                limits = measure_limits() if limits is None else limits.highest(measure_limits())
                facts["limits"] = limits.model_dump(mode="json")
            for case in plan:
                started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                cells.append((case, _row(case, len(cells), measure(case)) | {"started_at": started_at}))
                task.update(len(cells))
            rows = [row | _share(case, row, limits) for case, row in cells]
            # Whole rounds only: engines are compared within a round, so its cells must lie close together in time.
            facts["rounds_done"] += 1
            write(rows)
    return rows


def _kept_cells(kept: Run, presets: Sequence[str], workloads: Sequence[Workload]) -> list[tuple[_Case, Row]]:
    """Return the cells of a stopped comparison's whole rounds, as if they had just been measured."""
    plans = [_plan(presets, workloads, repeat) for repeat in range(kept.facts["rounds_done"])]
    cases = {_cell_id(case): case for plan in plans for case in plan}
    # A round more may be in the table: run.json, which counts them, is written after it.
    return [(cases[row["cell_id"]], row) for row in kept.cells if row["cell_id"] in cases]


def _in_order(plans: Sequence[list[_Case]], seed: int) -> list[list[_Case]]:
    """Return each round's cells in an order of its own; the same for a run that goes on."""
    rng = np.random.Generator(np.random.Philox(seed))
    return [[plan[i] for i in rng.permutation(len(plan)).tolist()] for plan in plans]


def _plan(presets: Sequence[str], workloads: Sequence[Workload], repeat: int) -> list[_Case]:
    """Return the cells of one round."""
    return [
        _Case(engine, name, workload, repeat)
        for engine in ENGINES
        for name in presets
        for workload in workloads
        if engine.runs(workload.name)
    ]


def _prepare(
    work_dir: Path, peers_env: Path, presets: Sequence[str], progress: ProgressReporter
) -> dict[tuple[str, str], str]:
    """Make every model; return why (engine, preset) cannot be measured, where it cannot."""
    problems = {}
    with progress.task("conversion", total=len(presets) * len(ENGINES), unit="models") as task:
        for i, name in enumerate(presets):
            folder = work_dir / name
            if not (folder / "model-q4_0.gguf").exists():
                make_sources(name, folder)
            for j, engine in enumerate(ENGINES):
                reason = convert(engine, folder, peers_env / "bin")
                if reason:
                    problems[engine.name, name] = reason
                task.update(i * len(ENGINES) + j + 1)
    return problems


def _measure(case: _Case, work_dir: Path, peers_env: Path) -> dict[str, Any]:
    """Run one adapter in a process of its own; return its result, or `{"error": ...}`."""
    workload = case.workload
    job = {
        "model": str((work_dir / case.preset / case.engine.model).resolve()),
        "threads": workload.threads,
        "bulk": workload.bulk,
        "prompts": workload.token_ids(preset(case.preset).vocab_size, case.repeat),
        "new_tokens": workload.new_tokens,
        "warmup_prompts": min(workload.prompts, 32),
        "import_from": str(_ROOT),
        "parent_pid": os.getpid(),
    }
    python = sys.executable if case.engine.own else str((peers_env / "bin" / "python").absolute())
    command = [python, str(case.engine.script)]
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))[: workload.threads]
        command = ["taskset", "-c", ",".join(map(str, cores)), *command]
    started_s = time.monotonic()
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            cwd=_ROOT,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            return {"error": f"adapter ended with code {done.returncode}: {lines[-1]}"}
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return {"error": str(error)}
    return result | {"start_s": result["first_token_at_s"] - started_s}


def _cell_id(case: _Case) -> str:
    return f"{case.engine.name}-{case.preset}-{case.workload.name}-{case.repeat}"


def _row(case: _Case, position: int, result: Mapping[str, Any]) -> Row:
    workload, failed = case.workload, "tokens" not in result
    row: Row = {
        "cell_id": _cell_id(case),
        "setup_id": f"{case.engine.name}-{case.preset}",
        "point_id": f"{case.preset}-{workload.name}",
        "role": "measure",
        "repeat": case.repeat,
        "position": position,
        "status": "failed" if failed else "ok",
        "error": result.get("error"),
        "flags": [],
        "backend": case.engine.name,
        "model": case.preset,
        "precision": case.engine.precision,
        "threads": workload.threads,
        "replicas": 1,
        "load": workload.name,
        "load_kind": "peer",
    }
    if failed:
        return row
    return row | {
        "requests": workload.prompts,
        "output_tokens": result["tokens"],
        "duration_s": result["seconds"],
        "tokens_per_s": result["tokens"] / result["seconds"],
        "load_s": result["load_s"],
        "start_s": result["start_s"],
        "peak_rss_bytes": result["peak_rss_bytes"],
    }


def _share(case: _Case, row: Row, limits: MachineLimits | None) -> Row:
    """Return how near a measured row came to what the machine allows; nothing where either is not known."""
    if limits is None or row["status"] != "ok":
        return {}
    workload, config = case.workload, preset(case.preset)
    macs_per_token = workload.macs(config, case.repeat) / (workload.prompts * workload.new_tokens)
    most = limits.tokens_per_s(
        macs_per_token=macs_per_token,
        weights_bytes=weights_bytes(config, case.engine.precision),
        precision=case.engine.precision,
        threads=workload.threads,
        rows=workload.prompts if workload.bulk else 1,
    )
    return {
        "gmac_per_s": row["tokens_per_s"] * macs_per_token / 1e9,
        "limit_tokens_per_s": most,
        "limit_share": row["tokens_per_s"] / most,
    }


def _facts(presets: Sequence[str], shared: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "run_id": f"{now:%Y%m%dT%H%M%SZ}-peers",
        "created_at": now.isoformat(timespec="seconds"),
        "question": "How does TinyLM compare with other engines on the same models and cores?",
        "models": [{"name": name, "precision": "int8"} for name in presets],
        "machine": machine_facts(),
        "rounds_done": 0,
        **shared,
        **context,
    }
