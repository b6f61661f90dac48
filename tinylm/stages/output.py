"""Model to stories and figures: the stages `stories`, `sweep`, `report`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylm.artifacts import MODEL_FILE, ArtifactRef, Store
from tinylm.bench.limits import stored_limits
from tinylm.config import GenerateOptions
from tinylm.manifest import git_commit, sha256_file
from tinylm.progress import ProgressReporter
from tinylm.stages.settings import VERSION, NoSettings, SamplesConfig

if TYPE_CHECKING:
    from tinylm.bench.config import CellSpec, SweepConfig
    from tinylm.bench.sweep import Sweep

    RunCell = Callable[[Sweep, CellSpec], dict[str, Any]]

__all__ = ["publish_report", "report", "stories", "sweep"]

REPORT_FILE = "report.html"
STORIES_FILE = "stories.jsonl"


def stories(
    store: Store,
    config: SamplesConfig,
    model: ArtifactRef,
    corpus: ArtifactRef,
    native: ArtifactRef,
    progress: ProgressReporter,
) -> ArtifactRef:
    """Return sample stories, one JSON object per line in stories.jsonl."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.engine import load_engine

        prompts = config.prompts or _held_out_openings(corpus, config)
        with load_engine(model.path / MODEL_FILE) as engine, progress.task("stories", None):
            told = engine.generate(prompts, config.options)
            rows = [
                {"prompt": prompt, "text": story.text, "finish_reason": story.finish_reason}
                for prompt, story in zip(prompts, told, strict=True)
            ]
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / STORIES_FILE).write_text("".join(lines), encoding="utf-8")
        return {"stories": len(rows), "finish_reasons": [row["finish_reason"] for row in rows]}

    inputs = {"model": model, "corpus": corpus, "native": native}
    return store.build("stories", VERSION["stories"], config, inputs, make)


def _held_out_openings(corpus: ArtifactRef, config: SamplesConfig) -> list[str]:
    """Return how some documents begin that the model has not seen: openings in the language and manner of the text."""
    from tinylm.corpus import read_texts

    documents = chain.from_iterable(read_texts(corpus.path / "valid.parquet", batch_rows=100))
    openings = (" ".join(text.split()[: config.opening_words]) for text in islice(documents, 20 * config.stories))
    return list(dict.fromkeys(openings))[: config.stories]  # many stories begin alike


def sweep(
    store: Store,
    config: SweepConfig,
    model: ArtifactRef | Path,
    native: ArtifactRef,
    progress: ProgressReporter,
    *,
    occasion: str = "",
    run_cell: RunCell | None = None,
) -> ArtifactRef:
    """Return the measured cells of one sweep on this machine.

    Args: model: an artifact, or a model file from elsewhere.
          occasion: name of a repeated measurement, such as a date; equal work under another name is measured again.
          run_cell: how one cell is run; None: `Sweep.run`, here and now.
    """
    from tinylm.bench import Sweep, run_sweep

    inputs = {"native": native}
    content = {"machine": _machine(), "occasion": occasion}
    if isinstance(model, ArtifactRef):
        path, inputs["model"] = model.path / MODEL_FILE, model
    else:
        path, content["model"] = model, sha256_file(model)

    def make(folder: Path) -> dict[str, Any]:
        context: dict[str, Any] = {"git_commit": git_commit(), "model": str(model), "occasion": occasion}
        limits = stored_limits(store.root)
        if limits:
            context["limits"] = limits.model_dump(mode="json")
        return run_sweep(config, path, folder, progress, context=context, run_cell=run_cell or Sweep.run)

    return store.build("sweep", VERSION["sweep"], config, inputs, make, content=content, resumable=True)


def report(
    store: Store,
    sweep: ArtifactRef,
    progress: ProgressReporter,
    *,
    checkpoint: ArtifactRef | None = None,
    stories: ArtifactRef | None = None,
) -> ArtifactRef:
    """Return HTML pages: the sweep compared with the sweeps that the store held before it, training, stories."""
    published_at = sweep.manifest.published_at
    earlier = [ref for ref in store.entries("sweep") if ref.manifest.published_at < published_at]

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.report import render_report, render_training

        with progress.task("report", None):
            if checkpoint is not None:
                render_training(checkpoint.path, folder / "training.html")
            if stories is not None:
                _render_stories(stories, folder / "stories.html")
            return render_report(sweep.path, folder / REPORT_FILE, [ref.path for ref in earlier])

    inputs = {"sweep": sweep, "checkpoint": checkpoint, "stories": stories}
    given = {name: ref for name, ref in inputs.items() if ref is not None}
    content = {"earlier": " ".join(ref.key for ref in earlier)}
    return store.build("report", VERSION["report"], NoSettings(), given, make, content=content)


def publish_report(report: ArtifactRef, sweep: ArtifactRef, reports_dir: Path) -> Path:
    """Copy pages and tables to a folder of `reports_dir` named after the run, list it in the index; return the page."""
    from tinylm.report import render_index

    folder = reports_dir / str(sweep.summary["run_id"])
    folder.mkdir(parents=True, exist_ok=True)
    for source in [*sweep.path.glob("*.parquet"), sweep.path / "run.json", *report.path.glob("*.html")]:
        partial = folder / f".{source.name}.partial"
        shutil.copyfile(source, partial)
        partial.rename(folder / source.name)
    render_index(reports_dir)
    return folder / REPORT_FILE


def _render_stories(stories: ArtifactRef, out_html: Path) -> None:
    from tinylm.report.stories_page import Story, note_of, options_text, render_stories

    told = [json.loads(line) for line in (stories.path / STORIES_FILE).read_text(encoding="utf-8").splitlines()]
    shown = [Story(row["prompt"], row["text"], note_of(row["finish_reason"])) for row in told]
    settings = options_text(GenerateOptions.model_validate(stories.manifest.config["options"]))
    render_stories(shown, out_html, settings=settings)


def _machine() -> str:
    """Return the name of the machine as far as speed depends on it."""
    from tinylm.bench.machine import machine_key

    return machine_key()
