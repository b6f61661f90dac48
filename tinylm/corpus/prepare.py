"""The corpus stage: read, clean, drop copies, split, write. Two passes, so memory does not grow with the text.

Pass one cleans documents into a staging file and keeps 264 bytes of hashes for each; the hashes decide which
stay; pass two writes train.parquet and valid.parquet. The same settings and source give the same files.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tinylm.corpus.clean import clean_text, reject, words
from tinylm.corpus.config import CorpusConfig
from tinylm.corpus.dedupe import SIGNATURE, content_hash, exact_copies, near_copies, ngram_hashes, signature
from tinylm.corpus.sources import read_documents, read_validation
from tinylm.errors import DataError
from tinylm.progress import ProgressReporter

__all__ = ["prepare_corpus", "read_texts"]

_log = logging.getLogger(__name__)

_SCHEMA = pa.schema([("text", pa.string())])
_ROWS = 4096  # documents written at a time
_NGRAM = 13  # words: the usual length for leaks between training and test text
Mask = NDArray[np.bool_]


def prepare_corpus(cfg: CorpusConfig, out_dir: Path, progress: ProgressReporter) -> dict[str, Any]:
    """Write train.parquet, valid.parquet and summary.json; return the summary.

    Documents are kept in the source's order. A copy or near-copy of an earlier document is dropped. Held-out
    documents are chosen by content hash, so they stay held out when the source grows or is reordered; text of a
    validation source of its own is not changed at all. Training documents that share more than `max_overlap`
    of their 13-word sequences with validation text are dropped from training.

    Raises: DataError if the source cannot be read or leaves no training text.
    """
    staging = out_dir / "staging.parquet"
    dropped: Counter[str] = Counter()
    try:
        hashes, signatures = _stage(cfg, staging, dropped, progress)
        with progress.task("copies", 3) as task:
            keep = _drop_copies(cfg, hashes, signatures, dropped)
            task.update(1)
            held_out, valid_texts = _choose_validation(cfg, hashes, keep, staging, dropped)
            task.update(2)
            overlap = _Overlap(valid_texts, cfg.overlap_limit)
            summary = _write(staging, out_dir, keep & ~held_out, valid_texts, overlap, dropped)
    finally:
        staging.unlink(missing_ok=True)
    summary = {"source": cfg.source, "documents_read": len(hashes) + _rejected(dropped), **summary}
    _check(cfg, summary)
    (out_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def read_texts(path: Path, batch_rows: int = _ROWS) -> Iterator[list[str]]:
    """Yield the texts of train.parquet or valid.parquet in batches."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_rows, columns=["text"]):
            yield batch.column(0).to_pylist()


_BEFORE_STAGING = ("empty", "too_short", "too_long", "cut")


def _rejected(dropped: Counter[str]) -> int:
    return sum(dropped[reason] for reason in _BEFORE_STAGING)


def _stage(
    cfg: CorpusConfig, staging: Path, dropped: Counter[str], progress: ProgressReporter
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Write the cleaned documents to `staging`; return their content hashes (N,) and signatures (N, SIGNATURE)."""
    clean = str.strip if cfg.source == "builtin" else clean_text  # our own writing is clean
    hashes, signatures = array("Q"), bytearray()
    total = cfg.stories if cfg.source == "builtin" else None
    with _TextWriter(staging) as writer, progress.task("corpus", total, "documents") as task:
        for index, raw in enumerate(read_documents(cfg)):
            text = clean(raw or "")
            tokens = words(text)
            if reason := reject(len(tokens), text, cfg.min_words, cfg.max_words, cfg.drops_cut):
                dropped[reason] += 1
                continue
            writer.add(text)
            hashes.append(content_hash(tokens))
            if cfg.copy_similarity:
                signatures += signature(tokens).tobytes()
            if index % 1000 == 0:
                task.update(index, kept=len(hashes))
    return np.frombuffer(hashes, np.uint64), np.frombuffer(signatures, np.uint32).reshape(-1, SIGNATURE)


def _drop_copies(
    cfg: CorpusConfig, hashes: NDArray[np.uint64], signatures: NDArray[np.uint32], dropped: Counter[str]
) -> Mask:
    copies = exact_copies(hashes)
    dropped["copy"] = int(copies.sum())
    keep: Mask = ~copies
    if cfg.copy_similarity:
        near = near_copies(signatures, cfg.copy_similarity) & keep
        dropped["near_copy"] = int(near.sum())
        keep &= ~near
    return keep


def _choose_validation(
    cfg: CorpusConfig, hashes: NDArray[np.uint64], keep: Mask, staging: Path, dropped: Counter[str]
) -> tuple[Mask, list[str]]:
    """Return which staged documents are held out of training, and the validation texts."""
    given = read_validation(cfg)
    if given is None:
        held_out = _by_hash(hashes, keep, cfg.valid_share)
        return held_out, [text for text, chosen in zip(_staged(staging), held_out, strict=True) if chosen]
    texts = [text for text in given if text and text.strip()]
    known = np.array([content_hash(words(text)) for text in texts], dtype=np.uint64)
    copies = np.isin(hashes, known) & keep
    dropped["in_validation"] = int(copies.sum())
    return copies, texts


def _by_hash(hashes: NDArray[np.uint64], keep: Mask, share: float) -> Mask:
    """Return the kept documents whose hash lies in the lowest `share`; at least one if there are two."""
    held_out: Mask = keep & (hashes < np.uint64(int(share * 2**64)))
    if not held_out.any() and keep.sum() > 1:
        held_out[np.flatnonzero(keep)[np.argmin(hashes[keep])]] = True
    return held_out


class _Overlap:
    """The 13-word sequences of the validation texts, and which of them were met in training text."""

    def __init__(self, texts: list[str], limit: float) -> None:
        self._limit = limit
        parts = [ngram_hashes(words(text), _NGRAM) for text in texts] if limit < 1 else []
        self._grams = np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)
        self._met = np.zeros(len(self._grams), dtype=np.bool_)

    def accept(self, text: str) -> bool:
        """Return whether a training text may stay; remember the sequences of those that may."""
        if not len(self._grams):
            return True
        grams = ngram_hashes(words(text), _NGRAM)
        places = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        shared = self._grams[places] == grams
        if shared.mean() > self._limit:
            return False
        self._met[places[shared]] = True
        return True

    @property
    def share(self) -> float | None:
        """Share of the validation text's distinct 13-word sequences met in training text; None: not looked at."""
        return round(float(self._met.mean()), 4) if len(self._met) else None


def _write(
    staging: Path, out_dir: Path, keep: Mask, valid_texts: list[str], overlap: _Overlap, dropped: Counter[str]
) -> dict[str, Any]:
    with _TextWriter(out_dir / "train.parquet") as train:
        for text, kept in zip(_staged(staging), keep, strict=True):
            if not kept:
                continue
            if overlap.accept(text):
                train.add(text)
            else:
                dropped["overlaps_validation"] += 1
    with _TextWriter(out_dir / "valid.parquet") as valid:
        for text in valid_texts:
            valid.add(text)
    return {
        "train": train.counts(),
        "valid": valid.counts(),
        "dropped": dict(sorted(dropped.items())),
        "valid_ngrams_in_train": overlap.share,
    }


def _staged(staging: Path) -> Iterable[str]:
    return (text for batch in read_texts(staging) for text in batch)


class _TextWriter:
    """Writes texts to a Parquet file, some thousand at a time."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._rows: list[str] = []
        self._documents = self._bytes = self._words = 0

    def add(self, text: str) -> None:
        self._rows.append(text)
        self._documents += 1
        self._bytes += len(text.encode())
        self._words += len(text.split())
        if len(self._rows) >= _ROWS:
            self._flush()

    def counts(self) -> dict[str, int]:
        return {"documents": self._documents, "bytes": self._bytes, "words": self._words}

    def _flush(self) -> None:
        self._writer.write_table(pa.table({"text": self._rows}, schema=_SCHEMA))
        self._rows = []

    def __enter__(self) -> _TextWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows and kind is None:
            self._flush()
        self._writer.close()


def _check(cfg: CorpusConfig, summary: dict[str, Any]) -> None:
    """Refuse a corpus without text; warn when most of it was dropped."""
    read, dropped = summary["documents_read"], summary["dropped"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "nothing dropped"
    for name in ("train", "valid"):
        if not summary[name]["documents"]:
            place = ", ".join(cfg.valid_files if name == "valid" and cfg.valid_files else cfg.files) or cfg.source
            raise DataError(
                f"{place}: no {name} text is left of {read} documents ({reasons}); expected at least two different "
                f"documents of {cfg.min_words} to {cfg.max_words} words; see min_words, max_words, drop_cut, separator"
            )
    if summary["train"]["documents"] < read / 2:
        _log.warning("more than half of the %d documents were dropped: %s", read, reasons)
