"""`stories.html`: a job's samples and figures on one page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq

from tinylm.errors import DataError
from tinylm.outputs import whole_file
from tinylm.stories.quality import COPY_WORDS, Quality, TrainingText, measure_quality
from tinylm.stories.shards import JOB_KEY

__all__ = ["job_quality", "write_stories_page"]

MAX_MEASURED = 5000  # stories, evenly spaced over the job: the figures no longer move (chosen)
MAX_SHOWN = 24
_COLUMNS = ["id", "row", "sample", "prompt", "text", "finish_reason", "output_tokens", "seed", "error"]
_ROWS: list[tuple[str, str, str]] = [
    ("stories", "stories measured", "count"),
    ("words_per_story", "words per story", "number"),
    ("distinct_1", "different words per word", "share"),
    ("distinct_2", "different word pairs per pair", "share"),
    ("distinct_3", "different word triples per triple", "share"),
    ("ended_share", "end with a full stop", "share"),
    ("repeated_sentence_rate", "sentences repeated within their story", "share"),
    ("same_story_share", "stories equal to an earlier one", "share"),
    ("copied_share", f"runs of {COPY_WORDS} words found in the training text", "share"),
    ("most_copied_story", "the same, of the most copied story", "share"),
]


def job_quality(output: Path, training: TrainingText | None = None) -> Quality:
    """Return the figures of a finished job's stories, from at most `MAX_MEASURED` of them.

    Args: output: the job's folder of shards or its single .parquet file.
    """
    return measure_quality([row["text"] for row in _good(_spread(output, MAX_MEASURED))], training)


def write_stories_page(
    output: Path, page: Path, training: TrainingText | None = None, human: Sequence[str] = ()
) -> Quality:
    """Write the page of a finished job and return its figures.

    Args:   output: the job's folder of shards or its single .parquet file.
            human: stories that people wrote and the model never saw, to stand beside the model's.
    Raises: DataError when `output` holds no Parquet answers.
    """
    measured = _spread(output, MAX_MEASURED)
    good = _good(measured)
    quality = measure_quality([row["text"] for row in good], training)
    step = max(1, len(good) // MAX_SHOWN)
    beside = measure_quality(list(human), training) if human else None
    html = _environment().get_template("stories.html.j2").render(
        name=output.name,
        job=_identity(output),
        figures=[_figure(row, quality, beside) for row in _ROWS],
        shown=good[::step][:MAX_SHOWN],
        bad=[row for row in measured if row["finish_reason"] == "invalid_input"][:MAX_SHOWN],
        human=list(human)[:6],
    )  # fmt: skip
    with whole_file(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return quality


def _environment() -> jinja2.Environment:
    def load(name: str) -> str:
        return resources.files("tinylm.stories").joinpath("templates", name).read_text(encoding="utf-8")

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(load), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )


def _figure(row: tuple[str, str, str], quality: Quality, beside: Quality | None) -> tuple[str, str, str | None]:
    field, label, form = row
    return (
        label,
        _shown(getattr(quality, field), form),
        None if beside is None else _shown(getattr(beside, field), form),
    )


def _shown(value: float | None, form: str) -> str:
    if value is None:
        return "–"
    return {"count": f"{value:,.0f}", "number": f"{value:,.1f}", "share": f"{value:.2%}"}[form]


def _good(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["error"] is None and row["text"]]


def _files(output: Path) -> list[Path]:
    files = sorted(output.glob("part-*.parquet")) if output.is_dir() else [output]
    if not files:
        raise DataError(f"{output}: found no shard part-*.parquet; give a job's folder or its .parquet file")
    return files


def _spread(output: Path, limit: int) -> list[dict[str, Any]]:
    """Return at most `limit` answers, evenly spaced over the job; other rows stay out of memory."""
    try:
        files = _files(output)
        total = sum(pq.read_metadata(path).num_rows for path in files)
        step = max(1, -(-total // limit))
        return [row for place, row in enumerate(_answers(files)) if place % step == 0]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{output}: cannot be read as Parquet answers: {error}") from None


def _answers(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024, columns=_COLUMNS):
            yield from batch.to_pylist()


def _identity(output: Path) -> dict[str, Any]:
    fields = pq.read_metadata(_files(output)[0]).metadata or {}
    return dict(json.loads(fields.get(JOB_KEY, b"{}")))
