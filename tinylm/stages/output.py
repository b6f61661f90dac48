"""Model to stories and figures: the stages `stories`, `sweep`, `report`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylm.artifacts import MODEL_FILE, ArtifactRef, Store
from tinylm.progress import ProgressReporter
from tinylm.stages.settings import VERSION, NoSettings, SamplesConfig

if TYPE_CHECKING:
    from tinylm.bench.config import SweepConfig

__all__ = ["publish_report", "report", "stories", "sweep"]


def stories(
    store: Store, config: SamplesConfig, model: ArtifactRef, native: ArtifactRef, progress: ProgressReporter
) -> ArtifactRef:
    """Return sample stories, one JSON object per line in stories.jsonl."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.engine import load_engine

        with load_engine(model.path / MODEL_FILE) as engine, progress.task("stories", None):
            told = engine.generate(config.prompts, config.options)
            rows = [
                {"prompt": prompt, "text": story.text, "finish_reason": story.finish_reason}
                for prompt, story in zip(config.prompts, told, strict=True)
            ]
        (folder / "stories.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return {"stories": len(rows), "finish_reasons": [row["finish_reason"] for row in rows]}

    return store.build("stories", VERSION["stories"], config, {"model": model, "native": native}, make)


def sweep(
    store: Store,
    config: SweepConfig,
    model: ArtifactRef,
    native: ArtifactRef,
    progress: ProgressReporter,
    *,
    occasion: str = "",
) -> ArtifactRef:
    """Return the measured cells of one sweep on this machine.

    Args: occasion: name of a repeated measurement, such as a date; equal work under another name is measured again.
    """
    from tinylm.bench import run_sweep

    return store.build(
        "sweep",
        VERSION["sweep"],
        config,
        {"model": model, "native": native},
        lambda folder: run_sweep(config, model.path / MODEL_FILE, folder, progress),
        content={"machine": _machine(), "occasion": occasion},
        resumable=True,
    )


def report(store: Store, sweep: ArtifactRef, progress: ProgressReporter) -> ArtifactRef:
    """Return the HTML report of a sweep, compared with the sweeps that the store held before it."""
    published_at = sweep.manifest.published_at
    earlier = [ref for ref in store.entries("sweep") if ref.manifest.published_at < published_at]

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.report import render_report

        with progress.task("report", None):
            return render_report(sweep.path, folder / "report.html", [ref.path for ref in earlier])

    content = {"earlier": " ".join(ref.key for ref in earlier)}
    return store.build("report", VERSION["report"], NoSettings(), {"sweep": sweep}, make, content=content)


def publish_report(report: ArtifactRef, sweep: ArtifactRef, reports_dir: Path) -> Path:
    """Copy a report and its tables to a folder of `reports_dir` named after the run; return the page's path."""
    folder = reports_dir / str(sweep.summary["run_id"])
    folder.mkdir(parents=True, exist_ok=True)
    tables = (path for path in sweep.path.iterdir() if path.suffix in {".parquet", ".json"})
    for source in [*tables, report.path / "report.html"]:
        partial = folder / f".{source.name}.partial"
        shutil.copyfile(source, partial)
        partial.rename(folder / source.name)
    return folder / "report.html"


def _machine() -> str:
    """Return the name of the machine as far as speed depends on it."""
    from tinylm.bench.machine import machine_key

    return machine_key()
