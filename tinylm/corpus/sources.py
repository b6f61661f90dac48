"""Where documents come from: the hub, files, or the built-in grammar; one iterator of raw texts for all.

Files and hub data sets are read with Hugging Face `datasets`, in streaming mode, so memory stays flat.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tinylm.corpus.config import CorpusConfig
from tinylm.corpus.grammar import GRAMMAR_VERSION, write_story
from tinylm.errors import DataError

__all__ = ["NetworkError", "corpus_fingerprint", "read_documents", "read_validation"]

PINNED = {"roneneldan/TinyStories": "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"}  # of 2024-08-12
_BUILDERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_BATCH = 1000  # rows asked of `datasets` at a time
_MARK = "<|endoftext|>"
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*")

Splitter = Callable[[str], list[str]]


class NetworkError(DataError):
    """The hub could not be reached; the same call may succeed later."""


def read_documents(cfg: CorpusConfig) -> Iterator[str | None]:
    """Yield the raw documents of the source in its own order; None where a row holds no text.

    Raises: DataError if a file is missing, unreadable or lacks the column; NetworkError if the hub is away.
    """
    return islice(_documents(cfg), cfg.max_documents or None)


def _documents(cfg: CorpusConfig) -> Iterator[str | None]:
    if cfg.source == "builtin":
        return (write_story(cfg.seed, index).text for index in range(cfg.stories))
    if cfg.source == "hub":
        return _read_hub(cfg, cfg.split)
    return _read_files(cfg, cfg.files)


def read_validation(cfg: CorpusConfig) -> Iterator[str | None] | None:
    """Return the raw validation documents, or None if they are to be held out of the training source."""
    if cfg.valid_files:
        return _read_files(cfg, cfg.valid_files)
    if cfg.source == "hub" and cfg.valid_split:
        return _read_hub(cfg, cfg.valid_split)
    return None


def corpus_fingerprint(cfg: CorpusConfig) -> str:
    """Return the SHA-256 of what the source holds now: file names and contents, hub revision, grammar version."""
    digest = hashlib.sha256(f"{cfg.source} {GRAMMAR_VERSION} {_revision(cfg)}".encode())
    for pattern in (*cfg.files, "", *cfg.valid_files):
        for path in _resolve(pattern) if pattern else ():
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        digest.update(b"\0")
    return digest.hexdigest()


def _revision(cfg: CorpusConfig) -> str | None:
    return cfg.revision or PINNED.get(cfg.dataset)


# -- the hub ----------------------------------------------------------------------------------------------


def _read_hub(cfg: CorpusConfig, split: str) -> Iterator[str | None]:
    import datasets  # slow to import: only where it is used
    import httpx

    where = f"hub data set {cfg.dataset}"
    try:
        data = datasets.load_dataset(cfg.dataset, split=split, revision=_revision(cfg), streaming=cfg.streaming)
        yield from _column(data.with_format("arrow").iter(batch_size=_BATCH), cfg.text_column, where)
    except (ConnectionError, TimeoutError, httpx.TransportError) as error:
        raise NetworkError(
            f"{where}: the hub cannot be reached ({str(error).splitlines()[0]}); connect and run again, "
            "or train on files of your own (source = 'files') or on the built-in corpus (source = 'builtin')"
        ) from None
    except (datasets.exceptions.DatasetNotFoundError, ValueError) as error:
        raise DataError(
            f"{where}: split {split!r} at revision {_revision(cfg) or 'main'} cannot be read "
            f"({str(error).splitlines()[0]}); check name, split and revision on huggingface.co/datasets"
        ) from None


# -- files ------------------------------------------------------------------------------------------------


def _resolve(pattern: str) -> list[Path]:
    """Return the files that a path, glob or folder names, sorted."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = sorted(entry for entry in path.rglob("*") if entry.is_file() and _kind(entry))
        if not found:
            raise DataError(f"{path}: the folder holds no text; expected files ending in {', '.join(_BUILDERS)}")
        return found
    if path.is_file():
        if not _kind(path):
            raise DataError(f"{path}: unknown kind of file; expected a name ending in {', '.join(_BUILDERS)}")
        return [path]
    found = sorted(entry for entry in map(Path, glob.glob(str(path), recursive=True)) if _kind(entry))  # noqa: PTH207
    if not found:
        raise DataError(f"{pattern}: no such file; expected a file, a folder or a pattern such as 'texts/*.txt'")
    return found


def _kind(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _PACKED]
    return _BUILDERS.get(suffixes[-1]) if suffixes else None


def _read_files(cfg: CorpusConfig, patterns: tuple[str, ...]) -> Iterator[str | None]:
    for path in [path for pattern in patterns for path in _resolve(pattern)]:
        yield from _read_file(cfg, path)


def _read_file(cfg: CorpusConfig, path: Path) -> Iterator[str | None]:
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # it would print what we raise
    kind = str(_kind(path))
    options = {"keep_linebreaks": True} if kind == "text" else {}
    if path.stat().st_size == 0:
        return
    try:
        data = datasets.load_dataset(kind, data_files=[str(path)], split="train", streaming=True, **options)
        batches = data.with_format("arrow").iter(batch_size=_BATCH)
        if kind == "text":
            yield from _join_lines(_column(batches, "text", str(path)), cfg.separator)
        else:
            yield from _column(batches, cfg.text_column, str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start} of a block; convert it, e.g. with iconv") from None
    except DataError:
        raise
    except (ValueError, OSError, EOFError) as error:  # pyarrow's and pandas's errors are ValueErrors
        place = _bad_line(path) if kind == "json" and path.suffix.lower() == ".jsonl" else ""
        raise DataError(f"{path}: cannot be read as {kind}{place} ({str(error).splitlines()[0]})") from None


def _bad_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line or "{}")
            except ValueError:
                return f"; line {number} is not JSON"
    return ""


def _column(batches: Iterator[Any], name: str, where: str) -> Iterator[str | None]:
    for batch in batches:
        if name not in batch.column_names:
            found = ", ".join(batch.column_names)
            raise DataError(
                f"{where}: no column {name!r}; found {found}; rename one to {name!r}, or say which holds the text "
                "(eval: --text-column, a profile: corpus.text_column)"
            )
        for value in batch.column(name).to_pylist():
            if value is not None and not isinstance(value, str):
                raise DataError(f"{where}: column {name!r} holds {type(value).__name__}; expected text")
            yield value


def _join_lines(lines: Iterator[str | None], separator: str) -> Iterator[str]:
    """Yield the documents of a text file from its lines (each with its line end)."""
    carry, split = "", None
    while block := list(islice(lines, 10 * _BATCH)):
        carry += "".join(line or "" for line in block)
        split = split or _splitter(separator, carry)
        *documents, carry = split(carry)
        yield from (document for document in documents if document.strip())
    if carry.strip():
        yield carry


def _splitter(separator: str, head: str) -> Splitter:
    """Return what cuts a text: at `separator`; else at end-of-text marks if `head` has one, or blank lines."""
    chosen = separator or (_MARK if _MARK in head else "")
    return (lambda text: text.split(chosen)) if chosen else _BLANK_LINE.split
