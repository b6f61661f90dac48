"""Runs a planned sweep, cell by cell, and writes its tables; killed, it goes on where it stopped."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinylm
from tinylm.bench.config import CellSpec, Load, SweepConfig
from tinylm.bench.histograms import LatencyHistogram
from tinylm.bench.limits import MachineLimits
from tinylm.bench.machine import machine_facts
from tinylm.bench.models import describe_model
from tinylm.bench.plan import plan_cells
from tinylm.bench.store import read_run, write_run
from tinylm.bench.worker import CellJob
from tinylm.errors import ConfigError, StageError
from tinylm.progress import ProgressReporter

__all__ = ["Sweep", "run_sweep"]

_GRACE_S = 90.0  # start, load and run-out of a worker, beyond its window
_ROOT = Path(tinylm.__file__).resolve().parents[1]

Result = dict[str, Any]


class Sweep:
    """One sweep over `models`; each finished cell is kept in `out_dir` until `finish` writes the tables."""

    def __init__(
        self,
        cfg: SweepConfig,
        models: Sequence[Path],
        out_dir: Path,
        context: Mapping[str, Any] | None = None,
        plan: Callable[[SweepConfig, Sequence[str]], list[CellSpec]] = plan_cells,
    ) -> None:
        if cfg.backend == "native" and not models:
            raise ConfigError("sweep: backend 'native' needs a model file; none was given")
        self.cfg, self.out_dir = cfg, out_dir
        self._models = [path.resolve() for path in models]
        self._scratch = out_dir / "partial"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self.facts = self._open_run(context or {})
        self.cells = plan(cfg, [model["precision"] for model in self.facts["models"]])

    def pending(self) -> list[CellSpec]:
        """Return the cells that have no figures yet, in running order; one that failed is tried again."""
        return [cell for cell in self.cells if "figures" not in self.result(cell)]

    def run(self, cell: CellSpec, window_s: float | None = None) -> Result:
        """Measure one cell in a fresh process, keep its result, and return it. A failure is a result too.

        Args: window_s: least length of the window, where it differs from the settings'.
        """
        started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        result = self._measure(cell, window_s)
        result |= {"started_at": started_at, "position": self.cells.index(cell)}
        temporary = self._path(cell).with_suffix(".tmp")
        temporary.write_text(json.dumps(result))
        temporary.replace(self._path(cell))
        return result

    def finish(self) -> dict[str, Any]:
        """Write the tables and run.json, drop the partial results, and return a summary.

        Raises: StageError if no cell succeeded; nothing is written then.
        """
        results = {cell: self.result(cell) for cell in self.cells}
        good = {cell: result for cell, result in results.items() if "figures" in result}
        if not good:
            raise StageError(f"sweep: every cell failed; first error: {results[self.cells[0]]['error']}")
        write_run(
            self.out_dir,
            self.facts,
            [self._row(cell, result) for cell, result in results.items()],
            {cell.cell_id: result["requests"] for cell, result in good.items()},
            {cell.cell_id: _decode(result["histograms"]) for cell, result in good.items()},
        )
        shutil.rmtree(self._scratch)
        return summarise(self.out_dir)

    def _open_run(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts of the run, those of the killed one if its settings were the same."""
        path = self._scratch / "facts.json"
        key = self.cfg.digest()
        if path.exists():
            facts: dict[str, Any] = json.loads(path.read_text())
            if facts["settings_digest"] != key:
                raise StageError(f"{self.out_dir}: holds an unfinished sweep of other settings; remove it first")
            return facts
        now = datetime.datetime.now(datetime.UTC)
        models = [describe_model(model) for model in self._models] or [{"precision": "none", "name": "null"}]
        facts = {
            "run_id": f"{now:%Y%m%dT%H%M%SZ}-{key[:6]}",
            "created_at": now.isoformat(timespec="seconds"),
            "question": self.cfg.question,
            "settings": self.cfg.model_dump(mode="json"),
            "settings_digest": key,
            "models": models,
            "machine": machine_facts(),
            "version": tinylm.__version__,
            **context,
        }
        path.write_text(json.dumps(facts))
        return facts

    def _measure(self, cell: CellSpec, window_s: float | None) -> Result:
        try:
            rate_rps = self._rate_rps(cell)
        except StageError as error:
            return {"error": str(error)}
        model = self._models[cell.model] if self._models else None
        job = CellJob(
            cell=cell,
            sweep=self.cfg,
            model=model,
            rate_rps=rate_rps,
            window_s=window_s,
            indices=self._measured_indices(cell) if cell.role == "audit" and cell.prompts == "sweep" else None,
        )
        return run_worker(job) | {"rate_rps": rate_rps}

    def _measured_indices(self, audit: CellSpec) -> tuple[int, ...]:
        """Return the numbers of some measured requests, drawn at random, for an audit of `audit.load`'s size."""
        measured = [cell for cell in self.cells if cell.role == "measure" and cell.model == audit.model]
        numbers = {index for cell in measured for index in self.result(cell).get("requests", {}).get("index", ())}
        rng = np.random.Generator(np.random.Philox(self.cfg.seeds.order))
        count = min(len(numbers), Load.parse(audit.load).requests or 0)
        return tuple(rng.choice(sorted(numbers), count, replace=False).tolist())

    def _rate_rps(self, cell: CellSpec) -> float | None:
        load = Load.parse(cell.load)
        if load.share is None:
            return load.rate_rps
        for other in self.cells:
            if other.role == "calibrate" and other.setup_id == cell.setup_id:
                figures = self.result(other).get("figures")
                if figures and figures["requests_per_s"] > 0:
                    return float(figures["requests_per_s"] * load.share)
        raise StageError(f"{cell.load} of capacity: the capacity of {cell.setup_id} could not be measured")

    def _row(self, cell: CellSpec, result: Result) -> dict[str, Any]:
        model, load = self.facts["models"][cell.model], Load.parse(cell.load)
        facts, figures = result.get("facts", {}), result.get("figures", {})
        row: dict[str, Any] = {"status": "failed", "flags": [], "error": result.get("error")}
        row |= cell.model_dump(mode="json") | {"cell_id": cell.cell_id, "setup_id": cell.setup_id}
        row |= {"point_id": f"{cell.setup_id}-{cell.load}", "load_kind": load.kind}
        row |= {"clients": load.clients, "share": load.share, "rate_rps": result.get("rate_rps")}
        row |= {"model": model["name"], "model_digest": model.get("digest")}
        row |= {"bits_per_byte": model.get("bits_per_byte")}
        row |= {"position": result["position"], "started_at": result["started_at"]}
        row |= figures | result.get("activity", {}) | facts
        if figures and model.get("macs_per_token"):
            row["gmac_per_s"] = figures["tokens_per_s"] * model["macs_per_token"] / 1e9
            row |= self._limit(cell, model, facts, figures)
        return row

    def _limit(
        self, cell: CellSpec, model: Mapping[str, Any], facts: Mapping[str, Any], figures: Mapping[str, Any]
    ) -> dict[str, float]:
        """Return what the machine's limits allow at this occupancy; nothing where they were not given."""
        if "limits" not in self.facts:
            return {}
        most = MachineLimits.model_validate(self.facts["limits"]).tokens_per_s(
            macs_per_token=model["macs_per_token"],
            weights_bytes=int(facts["weights_bytes"]) - model.get("lookup_bytes", 0),
            precision=cell.precision,
            threads=cell.replicas * cell.threads,
            rows=max(1, round(figures["occupancy"] * cell.replicas * cell.batch)),
        )
        return {"limit_tokens_per_s": most, "limit_share": figures["tokens_per_s"] / most}

    def result(self, cell: CellSpec) -> Result:
        """Return the kept result of a cell; empty when it has none."""
        path = self._path(cell)
        result: Result = json.loads(path.read_text()) if path.exists() else {}
        return result

    def _path(self, cell: CellSpec) -> Path:
        return self._scratch / f"{cell.cell_id}.json"


def run_worker(job: CellJob) -> Result:
    """Return what a fresh worker process answers to `job`, or `{"error": ...}` when it fails."""
    limit_s = job.sweep.warmup_s + max(job.sweep.max_duration_s, job.window_s or 0) + _GRACE_S
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tinylm.bench.worker", str(os.getpid())],
            input=job.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=limit_s,
            cwd=_ROOT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {limit_s:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return {"error": f"worker ended with code {done.returncode}: {lines[-1]}"}
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def _decode(encoded: Mapping[str, str]) -> dict[str, LatencyHistogram]:
    return {metric: LatencyHistogram.decode(text) for metric, text in encoded.items()}


def summarise(folder: Path) -> dict[str, Any]:
    """Return the headline of a finished run: counts by status and the best throughput."""
    run = read_run(folder)
    cells = [cell for cell in run.cells if cell["role"] == "measure"]
    good = [cell for cell in cells if cell["status"] == "ok"]
    best = max(good, key=lambda cell: float(cell["tokens_per_s"]), default=None)
    return {
        "run_id": run.run_id,
        "cells": len(cells),
        "failed": sum(cell["status"] == "failed" for cell in cells),
        "void": sum(cell["status"] == "void" for cell in cells),
        "busy": sum("busy-machine" in (cell["flags"] or ()) for cell in cells),
        "best_tokens_per_s": best["tokens_per_s"] if best else None,
        "best_point": best["point_id"] if best else None,
    }


def run_sweep(
    cfg: SweepConfig,
    model_path: Path | Sequence[Path] | None,
    out_dir: Path,
    progress: ProgressReporter,
    *,
    context: Mapping[str, Any] | None = None,
    run_cell: Callable[[Sweep, CellSpec], Result] = Sweep.run,
) -> dict[str, Any]:
    """Return the summary of the sweep whose tables it wrote to `out_dir`; finished cells are not measured again.

    Args: model_path: one model file, or several to compare; None for the null backend.
          context: facts for run.json that the library cannot know: git commit, profile, schedule; `limits`, the
              machine's limits as plain values, adds the share of the limit to every cell.
          run_cell: how one cell is run; a flow passes its task here.
    Raises: StageError if no cell succeeded; the failed ones are tried again next time.
    """
    if (out_dir / "run.json").exists():
        return summarise(out_dir)
    models = [model_path] if isinstance(model_path, Path) else list(model_path or [])
    sweep = Sweep(cfg, models, out_dir, context)
    with progress.task("sweep", total=len(sweep.cells), unit="cells") as task:
        waiting = sweep.pending()
        for done, cell in enumerate(waiting, len(sweep.cells) - len(waiting) + 1):
            figures = run_cell(sweep, cell).get("figures", {})
            task.update(done, tokens_per_s=figures.get("tokens_per_s", 0.0))
    return sweep.finish()
