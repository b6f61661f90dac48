"""Interleaved rounds over engines and workloads: every engine once per round, in an order of the round's own."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinylm
from tinylm.bench.limits import MachineLimits
from tinylm.bench.machine import machine_facts
from tinylm.bench.models import weights_bytes
from tinylm.bench.peers.engines import ENGINES, Engine, convert
from tinylm.bench.peers.models import make_sources
from tinylm.bench.peers.workloads import WORKLOADS, Workload
from tinylm.bench.store import Row, Run, read_run, write_run
from tinylm.errors import DataError, StageError
from tinylm.presets import preset
from tinylm.progress import ProgressReporter

__all__ = ["PEER_PRESETS", "rounds_done", "run_peers", "stopped_run"]

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
    Raises: StageError if not even TinyLM's own engine ran.
    """
    work_dir, peers_env = work_dir.absolute(), peers_env.absolute()  # engines run in folders of their own
    problems = _prepare(work_dir, peers_env, presets, progress)
    rng = np.random.Generator(np.random.Philox(seed))
    out_dir.mkdir(parents=True, exist_ok=True)
    kept = read_run(out_dir) if (out_dir / "run.json").exists() else None
    facts = dict(kept.facts) if kept else _facts(presets, rounds, seed, context or {})
    limits = MachineLimits.model_validate(facts["limits"]) if "limits" in facts else None
    cells = _kept_cells(kept, presets, workloads) if kept else []
    rows = [row for _, row in cells]
    with progress.task("peers", total=rounds * len(_plan(presets, workloads, 0)), unit="cells") as task:
        task.update(len(cells))
        for repeat in range(rounds):
            plan = _plan(presets, workloads, repeat)
            order = rng.permutation(len(plan)).tolist()
            if kept and repeat < rounds_done(kept):
                continue
            if measure_limits:
                limits = measure_limits() if limits is None else limits.highest(measure_limits())
            for case in (plan[i] for i in order):
                problem = problems.get((case.engine.name, case.preset))
                result = {"error": problem} if problem else _measure(case, work_dir, peers_env)
                cells.append((case, _row(case, len(cells), result)))
                task.update(len(cells))
            if limits:
                facts["limits"] = limits.model_dump(mode="json")
            rows = [row | _share(case, row, limits) for case, row in cells]
            # Whole rounds only: engines are compared within a round, so its cells must lie close together in time.
            write_run(out_dir, facts, rows, {}, {})
    if not any(row["backend"] == "tinylm" and row["status"] == "ok" for row in rows):
        raise StageError(f"peers: the native engine did not run: {rows[0]['error']}")
    missing = {f"{engine} {name}": reason for (engine, name), reason in problems.items()}
    return {"run_id": facts["run_id"], "cells": len(rows), "missing": missing}


def rounds_done(run: Run) -> int:
    """Return how many rounds a comparison holds."""
    return 1 + max(int(cell["repeat"]) for cell in run.cells)


def stopped_run(reports: Path, *, presets: Sequence[str] = PEER_PRESETS, rounds: int = 5, seed: int = 0) -> Run | None:
    """Return the last comparison of these settings, machine and engine under `reports` if it has rounds to come."""
    wanted = _identity(presets, rounds, seed)
    for folder in sorted(reports.glob("*-peers"), reverse=True):
        try:
            run = read_run(folder)
        except DataError:  # stopped before a round was whole
            continue
        if all(run.facts.get(name) == value for name, value in wanted.items()):
            return run if rounds_done(run) < rounds else None
    return None


def _kept_cells(kept: Run, presets: Sequence[str], workloads: Sequence[Workload]) -> list[tuple[_Case, Row]]:
    """Return the cells of a stopped comparison, as if they had just been measured."""
    plans = [_plan(presets, workloads, repeat) for repeat in range(rounds_done(kept))]
    cases = {_cell_id(case): case for plan in plans for case in plan}
    return [(cases[row["cell_id"]], row) for row in kept.cells]


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


def _facts(presets: Sequence[str], rounds: int, seed: int, context: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "run_id": f"{now:%Y%m%dT%H%M%SZ}-peers",
        "created_at": now.isoformat(timespec="seconds"),
        "question": "How does TinyLM compare with other engines on the same models and cores?",
        "models": [{"name": name, "precision": "int8"} for name in presets],
        **_identity(presets, rounds, seed),
        **context,
    }


def _identity(presets: Sequence[str], rounds: int, seed: int) -> dict[str, Any]:
    """Return the facts that rounds of one comparison must share."""
    native = importlib.util.find_spec("tinylm._native")
    code = Path(native.origin).read_bytes() if native and native.origin else b""
    return {
        "settings": {"presets": list(presets), "rounds": rounds, "seed": seed},
        "machine": machine_facts(),
        "version": tinylm.__version__,
        "engine_digest": hashlib.sha256(code).hexdigest(),
    }
