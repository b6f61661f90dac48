"""`reports/index.html`: every run with its verdict, and trends over time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tinylm.bench.compare import comparable
from tinylm.bench.store import Run, read_run
from tinylm.errors import DataError
from tinylm.report.comparison_figures import latency_trend, trend
from tinylm.report.page import write_page
from tinylm.report.view import RunView

__all__ = ["render_index"]

_HEADLINE = re.compile(r'<script type="application/json" id="headline">(.*?)</script>', re.DOTALL)
_TREND_RUNS = 60


def render_index(reports_dir: Path) -> Path:
    """Write `index.html` in `reports_dir`, from the runs and pages in its folders, and return its path."""
    runs = _runs(reports_dir)
    pages = sorted(path.relative_to(reports_dir) for path in reports_dir.glob("*/*.html") if path.name != "report.html")
    out = reports_dir / "index.html"
    recent = [run for run in runs if comparable(run, runs[-1])][-_TREND_RUNS:]
    write_page(
        out,
        "index.html.j2",
        title="Reports",
        rows=[_row(run, reports_dir) for run in reversed(runs)],
        figures=[trend(recent), latency_trend(recent)] if len(recent) > 1 else [],
        pages=[(page.as_posix(), f"{page.parent.name}: {page.stem}") for page in reversed(pages)],
    )
    return out


def _runs(reports_dir: Path) -> list[Run]:
    """Return the sweeps by time; a run over other engines has a page of its own kind."""
    runs = []
    for path in reports_dir.glob("*/run.json"):
        try:
            runs.append(read_run(path.parent))
        except DataError:
            continue
    sweeps = (run for run in runs if any(cell["load_kind"] != "peer" for cell in run.cells))
    return sorted(sweeps, key=lambda run: run.run_id)


def _row(run: Run, reports_dir: Path) -> dict[str, Any]:
    best = RunView(run).best
    page = run.folder / "report.html"
    models = [f"{m['name']} {m['precision']}" if m["precision"] != "none" else m["name"] for m in run.facts["models"]]
    return {
        "run_id": run.run_id,
        "created_at": str(run.facts["created_at"])[:16].replace("T", " "),
        "href": page.relative_to(reports_dir).as_posix() if page.is_file() else None,
        "models": ", ".join(models),
        "machine": run.facts["machine"]["cpu"],
        "best_tokens_per_s": best.median("tokens_per_s") if best else None,
        "p50_ns": best.percentile("e2e", 50) if best else None,
        "p99_ns": best.percentile("e2e", 99) if best else None,
        "verdict": _headline(page).get("verdict", "–"),
        "failed": sum(cell["status"] != "ok" for cell in run.cells),
        "cells": len(run.cells),
    }


def _headline(page: Path) -> dict[str, Any]:
    """Return the headline that a report carries for machines."""
    found = _HEADLINE.search(page.read_text(encoding="utf-8")) if page.is_file() else None
    headline: dict[str, Any] = json.loads(found[1]) if found else {}
    return headline
