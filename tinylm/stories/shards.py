"""Answers as Parquet shards whose bytes depend on the job alone: no clock, no machine, no order of arrival."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tinylm.errors import StageError
from tinylm.stories.job import RangeSummary

__all__ = ["SCHEMA", "Answer", "read_shard_summary", "shard_name", "shard_table", "write_shard"]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("seed", pa.int64()),
        ("error", pa.string()),
        ("model", pa.string()),
    ]
)
JOB_KEY, SUMMARY_KEY = b"tinylm.job", b"tinylm.summary"
_ROW_GROUP_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Answer:
    """One output row: one sample of one input row, or the reason why there is none."""

    id: str
    row: int
    sample: int
    prompt: str | None
    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    seed: int
    error: str | None
    model: str


def shard_name(number: int) -> str:
    """Return the file name of shard `number`, input rows [number * shard_rows, (number + 1) * shard_rows)."""
    return f"part-{number:05d}.parquet"


def summarize(answers: Sequence[Answer]) -> RangeSummary:
    """Return the counts of a shard's answers, which lie in row order."""
    failures: dict[str, int] = {}
    reasons: dict[str, int] = {}
    bad_rows: dict[int, str] = {}
    for answer in answers:
        reasons[answer.finish_reason] = reasons.get(answer.finish_reason, 0) + 1
        if answer.finish_reason == "invalid_input" and answer.row not in bad_rows:
            bad_rows[answer.row] = answer.error or ""
            failures["invalid_input"] = len(bad_rows)
    first = next(iter(bad_rows.items()), None)
    return RangeSummary(
        rows=len({answer.row for answer in answers}),
        answers=len(answers),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        output_tokens=sum(answer.output_tokens for answer in answers),
        failures=failures,
        finish_reasons=dict(sorted(reasons.items())),
        first_bad_row=None if first is None else first[0],
        first_bad=None if first is None else first[1],
    )


def shard_table(answers: Sequence[Answer], identity: dict[str, Any]) -> pa.Table:
    """Return the answers as a table whose metadata holds the job and the shard's counts."""
    columns = [[getattr(answer, name) for answer in answers] for name in SCHEMA.names]
    metadata = {
        JOB_KEY: canonical(identity),
        SUMMARY_KEY: canonical(summarize(answers).model_dump(mode="json")),
    }
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))


@contextmanager
def open_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet writer with the settings that all of the job's files share.

    The file is closed for certain: after a failed write the writer alone would hold it, and its disk space.
    """
    with path.open("wb") as file:
        writer = pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True)
        try:
            yield writer
            writer.close()
        except BaseException:
            writer.is_open = False  # or its destructor would write the footer into the closed file
            raise


def write_shard(path: Path, table: pa.Table) -> None:
    """Write `table` to a local file."""
    with open_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)


def check_rows(path: Path, n_rows: int) -> None:
    """Raise StageError unless the Parquet file at `path` has a footer and `n_rows` rows."""
    try:
        found = int(pq.read_metadata(str(path)).num_rows)
    except pa.ArrowInvalid as error:
        raise StageError(f"{path.name}: the file just written cannot be read back: {error}") from None
    if found != n_rows:
        raise StageError(f"{path.name}: wrote {n_rows} rows, the file holds {found}")


def read_shard_summary(stream: BinaryIO, identity: dict[str, Any], rows: range) -> RangeSummary | None:
    """Return a committed shard's counts, or None when it is damaged, another job's or of other rows than `rows`."""
    try:
        metadata = pq.ParquetFile(stream).metadata
        fields = metadata.metadata or {}
        if fields.get(JOB_KEY) != canonical(identity):
            return None
        summary = RangeSummary.model_validate_json(fields[SUMMARY_KEY])
    except (pa.ArrowInvalid, OSError, KeyError, ValueError):
        return None
    column = metadata.schema.names.index("row")
    first_row = metadata.row_group(0).column(column).statistics.min if metadata.num_rows else rows.start
    whole = summary.answers == metadata.num_rows and summary.rows == len(rows) and first_row == rows.start
    return summary if whole else None


def canonical(value: object) -> bytes:
    """Return `value` as JSON with one spelling."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
