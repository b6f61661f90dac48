"""Commands that write stories: `generate`, `story`, `chat`, `compare`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.base import ArtifactsDir, Json, ModelPath, Output, check_folder, find_model, open_store
from tinylm.cli.options import EngineSetup, Precision, engine_options, job_options, sampling_options
from tinylm.errors import ConfigError, DataError, StageError

if TYPE_CHECKING:
    from tinylm.config import GenerateOptions
    from tinylm.stories.job import JobSummary

__all__ = ["add_to"]

_FIGURES = {  # heading of `tinylm compare`, field of its rows
    "tokens": "output_tokens",
    "tokens/s": "tokens_per_s",
    "first ms": "first_token_ms",
    "load ms": "load_ms",
    "peak MB": "peak_mb",
}


@engine_options
@sampling_options
def story(
    options: GenerateOptions,
    engine: EngineSetup,
    prompt: Annotated[str | None, typer.Argument(help="How the story begins.", show_default="Once upon a time")] = None,
    theme: Annotated[str | None, typer.Option(help="What it is about, instead of PROMPT.", show_default="none")] = None,
    model: ModelPath = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Write one story to the terminal, word by word, beginning with PROMPT."""
    from tinylm.engine import load_engine
    from tinylm.stories.telling import stream_story

    out = Output(json_output)
    if prompt is not None and theme is not None:
        raise ConfigError("story: give either PROMPT or --theme, not both")
    if theme is None and prompt is None:
        prompt = "Once upon a time"
    path = find_model(model, artifacts)
    started_s = time.monotonic()
    pieces = []
    with load_engine(path, **_single_stream(engine)) as loaded:
        for piece in stream_story(loaded, prompt, theme=theme, options=options):
            out.piece(piece)
            pieces.append(piece)
    out.line()
    seconds = time.monotonic() - started_s
    opening, *told = pieces
    out.result({"prompt": opening, "text": "".join(told), "model": str(path), "seconds": round(seconds, 3)})


@engine_options
@sampling_options
def chat(
    options: GenerateOptions,
    engine: EngineSetup,
    model: ModelPath = None,
    artifacts: ArtifactsDir = Path("artifacts"),
) -> None:
    """Write stories in a conversation: openings, /theme, /again, /more, /set, /history, /export."""
    from tinylm.engine import load_engine
    from tinylm.stories.chat import Chat

    out = Output(as_json=False)
    with load_engine(find_model(model, artifacts), **_single_stream(engine)) as loaded:
        Chat(loaded, options, input, out.piece).run()


def _single_stream(engine: EngineSetup) -> dict[str, Any]:
    """Give one stream all cores, and its replica one slot, unless the caller said otherwise."""
    from tinylm.machine import physical_cores

    replicas = engine.replicas or 1
    threads = engine.threads_per_replica or max(1, physical_cores() // replicas)
    return engine._replace(replicas=replicas, threads_per_replica=threads, max_batch=engine.max_batch or 1)._asdict()


@engine_options
@sampling_options
@job_options
def generate(
    job: dict[str, Any],
    options: GenerateOptions,
    engine: EngineSetup,
    output: Annotated[
        str, typer.Option("--out", "-o", help="Folder of shards, or one .parquet .jsonl .csv .txt file; not packed.")
    ],
    prompts: Annotated[
        list[str] | None, typer.Option(help="File, glob, URL or '-'; .txt .jsonl .csv .parquet.")
    ] = None,
    model: ModelPath = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Run at this precision.", show_default="the file's")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page of samples and quality figures.", show_default="none")
    ] = None,
    training: Annotated[
        list[str] | None, typer.Option(help="Training text, to count copies on the page.", show_default="none")
    ] = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Answer every row of a prompts file exactly once; a killed job goes on where it was.

    Exit code 2 when some rows could not be used: they are in the output with the reason, all others answered.
    """
    out = Output(json_output)
    _check_page(output, page, training)
    path = _model_at(model, precision, artifacts)
    work = {"prompts": prompts or [], "output": output, "model": str(path), "options": options}
    summary = _run_job(work | job | engine._asdict(), out)
    if page is not None:
        _write_page(Path(output), page, training or [])
        out.line(f"page  {page}")
    out.result(summary.model_dump(mode="json"))
    if summary.complaint:
        raise DataError(summary.complaint)


def _check_page(output: str, page: Path | None, training: list[str] | None) -> None:
    """Raise ConfigError for a page that could not be written once all stories are."""
    from tinylm.outputs import check_output
    from tinylm.stories.plan import single_format

    if page is None and training:
        raise ConfigError("--training: is read for the page alone; give --page as well")
    if page is not None and single_format(output) not in (None, "parquet"):
        raise ConfigError(
            f"--page: is made of Parquet answers, found --out {output}; write a folder or a .parquet file"
        )
    if page is not None and page.is_dir():
        raise ConfigError(f"--page: {page} is a folder; name a file")
    if page is not None:
        check_output(page)
        check_folder("--page", page.parent)


def _model_at(model: str | None, precision: Precision | None, artifacts: Path) -> Path:
    """Return the model's file, converted to `precision` and kept in the store if that is another."""
    path = find_model(model, artifacts)
    if precision is None:
        return path
    from tinylm.stages import at_precision

    return at_precision(open_store(artifacts), path, precision.value)


def _run_job(fields: dict[str, Any], out: Output) -> JobSummary:
    from tinylm.config import parse
    from tinylm.progress import terminal_progress
    from tinylm.stories.generate import generate_file
    from tinylm.stories.job import GenerateJob

    summary = generate_file(parse(GenerateJob, fields, "generate"), terminal_progress())
    stories = summary.answers - summary.finish_reasons.get("invalid_input", 0)
    work = (
        f"{summary.output_tokens:,} tokens, {summary.seconds_s:.1f} s, {summary.tokens_per_s:,.0f} tokens/s, "
        f"slots {summary.occupancy:.0%} full"
    )
    done = "all were there before" if summary.reused_rows == summary.rows else work
    out.line(f"{stories:,} stories of {summary.rows:,} rows in {summary.output}: {done}")
    out.line("ended by  " + ", ".join(f"{reason} {count:,}" for reason, count in summary.finish_reasons.items()))
    return summary


def _write_page(output: Path, page: Path, training: list[str]) -> None:
    from tinylm.corpus import CorpusConfig
    from tinylm.corpus.sources import read_documents
    from tinylm.stories.page import write_stories_page
    from tinylm.stories.quality import TrainingText

    known = None
    if training:
        documents = read_documents(CorpusConfig(source="files", files=tuple(training)))
        known = TrainingText(document for document in documents if document)
    write_stories_page(output, page, known)


@sampling_options
def compare(
    options: GenerateOptions,
    prompt: Annotated[str, typer.Option(help="How the story begins.")] = "Once upon a time",
    backend: Annotated[list[str] | None, typer.Option(help="Only these; repeatable.", show_default="all")] = None,
    model: ModelPath = None,
    artifacts: ArtifactsDir = Path("artifacts"),
    json_output: Json = False,
) -> None:
    """Run one prompt through every backend: is the text equal, and how fast and large is each."""
    from rich.table import Table

    from tinylm.backends.compare import compare_backends

    out = Output(json_output)
    rows = compare_backends(find_model(model, artifacts), prompt, options, names=backend)
    table = Table("backend", "text equal", *_FIGURES, box=None)
    for row in rows:
        figures = () if row.error else (f"{getattr(row, name):,.4g}" for name in _FIGURES.values())
        table.add_row(row.backend, row.equal, *figures)
    out.show(table)
    for row in rows:
        if row.error:
            out.line(f"{row.backend} did not run: {row.error}")
    out.result({"prompt": prompt, "backends": [row.as_dict() for row in rows]})
    if all(row.error for row in rows):
        raise StageError(f"compare: no backend ran; {rows[0].backend}: {rows[0].error}")


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    panel = "Stories"
    app.command("generate", rich_help_panel=panel)(generate)
    app.command("story", rich_help_panel=panel)(story)
    app.command("chat", rich_help_panel=panel)(chat)
    app.command("compare", rich_help_panel=panel)(compare)
