"""Which files a job reads: finding, opening, unpacking, and identifying them by content."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import fsspec
import pyarrow as pa
import zstandard

from tinylm.config import Config
from tinylm.errors import ConfigError, DataError
from tinylm.stories.job import GenerateJob
from tinylm.stories.presets import preset_prompts
from tinylm.stories.readers import Record, column_names, count_records, read_records
from tinylm.stories.storage import file_system

__all__ = ["Input", "Source", "find_sources", "identify", "job_records", "sha256_of", "stored_bytes"]

_KINDS = {".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_PACKED = frozenset({".gz", ".zst"})
_READ_ERRORS = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowInvalid)


@dataclass(frozen=True, slots=True)
class Source:
    """One prompts file, or the job's own rows when `path` is empty."""

    path: str
    kind: str
    packing: str = ""
    own_rows: tuple[dict[str, str], ...] = ()


class Input(Config):
    """A source's identity: the same bytes read in the same way are the same input, whatever the name."""

    kind: str
    size_bytes: int
    sha256: str
    rows: int


def find_sources(job: GenerateJob, spool: Path | None = None) -> list[Source]:
    """Return the job's sources in reading order: as named, the files of a glob sorted.

    `spool`: folder that takes a copy of standard input, so that a killed job can be resumed.
    Raises: DataError when a file or a glob's match is missing; ConfigError on an unknown suffix.
    """
    if job.preset is not None:
        return [Source("", "own", own_rows=tuple({"prompt": prompt} for prompt in preset_prompts(job.preset)))]
    if job.themes:
        return [Source("", "own", own_rows=tuple({"theme": theme} for theme in job.themes))]
    paths = [path for pattern in job.prompts for path in _expanded(pattern, spool)]
    return [_source(path, job.input_format) for path in paths]


def identify(source: Source, max_row_bytes: int, needed: Collection[str] = ()) -> Input:
    """Return the source's size, digest and number of rows.

    Raises: DataError naming the file when it cannot be read to its end, or is a table without a column of `needed`.
    """
    if source.kind == "own":
        body = json.dumps(source.own_rows).encode()
        digest = hashlib.sha256(body).hexdigest()
        return Input(kind="own", size_bytes=len(body), sha256=digest, rows=len(source.own_rows))
    with _named_errors(source):
        with _opened(source.path) as raw:
            head = raw.read(2)
        with _opened(source.path) as raw:
            digest, size_bytes = sha256_of(raw)
        with _unpacked(source) as stream:
            columns = column_names(stream, source.kind, max_row_bytes)
        with _unpacked(source) as stream:
            rows = count_records(stream, source.kind, max_row_bytes)
    _refuse_utf16(source, head)
    _refuse_missing(source, columns, needed)
    return Input(kind=source.kind, size_bytes=size_bytes, sha256=digest, rows=rows)


def stored_bytes(source: Source) -> int | None:
    """Return the size of the source's file now, or None where the file system does not tell.

    Raises: DataError when the file is gone.
    """
    if not source.path:
        return None
    with _named_errors(source):
        if "://" not in source.path:
            return Path(source.path).stat().st_size
        fs, path = file_system(source.path)
        size = fs.size(path)
    return None if size is None else int(size)


def job_records(
    sources: Sequence[Source], inputs: Sequence[Input], max_row_bytes: int, start: int = 0
) -> Iterator[tuple[int, Record]]:
    """Yield (row number, record) over all sources in order, from row `start` on; rows count on from file to file."""
    row = 0
    for source, known in zip(sources, inputs, strict=True):
        if start >= row + known.rows:
            row += known.rows
            continue
        skip = max(0, start - row)
        row += skip
        for record in _records(source, max_row_bytes, skip):
            yield row, record
            row += 1


def _records(source: Source, max_row_bytes: int, skip: int) -> Iterator[Record]:
    if source.kind == "own":
        yield from (Record(row, is_line=True) for row in source.own_rows[skip:])
        return
    with _named_errors(source), _unpacked(source) as stream:
        yield from read_records(stream, source.kind, max_row_bytes, skip)


def _expanded(pattern: str, spool: Path | None) -> list[str]:
    if pattern == "-":
        return [_spooled_input(spool)]
    has_marks = any(mark in pattern for mark in "*?[")
    if "://" in pattern:
        fs, inner = file_system(pattern)
        if not has_marks:
            return [pattern]
        found = [str(fs.unstrip_protocol(path)) for path in sorted(fs.glob(inner))]
    elif os.path.isdir(pattern):  # noqa: PTH112  (os.path: False, not an error, for impossible names)
        raise DataError(f"prompts: {pattern} is a folder; name its files, such as '{pattern}/*.jsonl'")
    elif os.path.exists(pattern) or not has_marks:  # noqa: PTH110
        found = [pattern] if os.path.exists(pattern) else []  # noqa: PTH110
    else:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
    if not found:
        raise DataError(f"prompts: found no file {pattern!r}; check the path")
    return found


def _source(path: str, wanted: str) -> Source:
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in _PACKED else ""
    kind = wanted if wanted != "auto" else _KINDS.get(suffixes[-1] if suffixes else "", "")
    if not kind:
        known = ", ".join([*_KINDS, *sorted(_PACKED)])
        raise ConfigError(f"prompts: {path} has no suffix of {known}; rename it or give --input-format (input_format)")
    return Source(path, kind, packing)


def _spooled_input(spool: Path | None) -> str:
    """Copy standard input to a file and return its path; the first byte tells JSON lines from text."""
    if spool is None:
        raise ConfigError("prompts: standard input can be read only by a local job; write it to a file first")
    spool.mkdir(parents=True, exist_ok=True)
    stream = sys.stdin.buffer
    head = stream.read(1 << 16)
    path = spool / f"stdin.{'jsonl' if head.lstrip()[:1] == b'{' else 'txt'}"
    with path.open("wb") as copy:
        copy.write(head)
        shutil.copyfileobj(stream, copy, 1 << 20)
    return str(path)


@contextmanager
def _named_errors(source: Source) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"prompts: found no file {source.path}; check the path") from None
    except DataError as error:
        raise DataError(f"prompts: {source.path}: {error}") from None
    except _READ_ERRORS as error:
        raise DataError(f"prompts: {source.path}: cannot be read as {source.kind}{source.packing}: {error}") from error


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if "://" in path:
        with fsspec.open(path, "rb") as stream:
            yield cast("BinaryIO", stream)
    else:
        with Path(path).open("rb") as stream:
            yield stream


@contextmanager
def _unpacked(source: Source) -> Iterator[BinaryIO]:
    with _opened(source.path) as raw:
        if source.packing == ".gz":
            stream = cast("BinaryIO", gzip.GzipFile(fileobj=raw))
        elif source.packing == ".zst":
            stream = cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        else:
            stream = raw
        if source.packing and source.kind == "parquet":
            with tempfile.TemporaryFile() as seekable:  # a Parquet footer is read from the end
                shutil.copyfileobj(stream, seekable, 1 << 20)
                yield cast("BinaryIO", seekable)
        else:
            yield stream


def sha256_of(stream: BinaryIO) -> tuple[str, int]:
    """Return the SHA-256 in hex and the length in bytes of the rest of `stream`."""
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
        size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def _refuse_missing(source: Source, columns: list[str] | None, needed: Collection[str]) -> None:
    for name in needed:
        if columns is not None and name not in columns:
            found = ", ".join(repr(column[:50]) for column in columns[:20])
            raise DataError(
                f"prompts: {source.path} has no column {name!r}; found {found}. Name it: --column {name}=COLUMN"
            )


def _refuse_utf16(source: Source, head: bytes) -> None:
    if source.kind != "parquet" and not source.packing and head in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"prompts: {source.path} is UTF-16; convert it to UTF-8, as with iconv -f utf-16 -t utf-8")
