"""Token shards: each document as BOS tokens EOS in one flat uint16 file, with the offsets where documents start.

A shard is two files: NAME.bin (uint16, little endian) and NAME_offsets.npy (int64, document starts, then the end).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.corpus.prepare import read_texts
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.progress import ProgressReporter
from tinylm.tokenizer import Tokenizer

__all__ = ["TokenShard", "write_token_shards"]

_DTYPE = np.dtype("<u2")
_MAX_VOCAB = 65_535  # ids must fit uint16
_BATCH_DOCUMENTS = 2048
_SCAN_TOKENS = 1 << 24  # tokens checked at a time: 32 MB


def write_token_shards(
    corpus_dir: Path, tokenizer: Tokenizer, out_dir: Path, progress: ProgressReporter
) -> dict[str, Any]:
    """Write train and valid shards of a prepared corpus, and summary.json; return the summary.

    Raises: ConfigError if the vocabulary does not fit uint16; DataError if the tokenizer has no document marks.
    """
    if tokenizer.vocab_size > _MAX_VOCAB:
        raise ConfigError(f"vocab_size: at most {_MAX_VOCAB} fits the token files; found {tokenizer.vocab_size}")
    summary: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "tokenizer_digest": tokenizer.digest()}
    for name in ("train", "valid"):
        summary[name] = _write_shard(corpus_dir / f"{name}.parquet", name, tokenizer, out_dir, progress)
    (out_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _write_shard(
    texts: Path, name: str, tokenizer: Tokenizer, out_dir: Path, progress: ProgressReporter
) -> dict[str, Any]:
    head, tail = _document_marks(tokenizer)
    lengths: list[int] = []
    text_bytes = 0
    with (out_dir / f"{name}.bin").open("wb") as file, progress.task(f"{name} tokens", None, "documents") as task:
        for batch in read_texts(texts, _BATCH_DOCUMENTS):
            rows = [head + row + tail for row in tokenizer.encode_batch(batch)]
            file.write(np.concatenate([np.array(row, dtype=_DTYPE) for row in rows]).tobytes())
            lengths += map(len, rows)
            text_bytes += sum(len(text.encode()) for text in batch)
            task.update(len(lengths))
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64)
    np.save(out_dir / f"{name}_offsets.npy", offsets)
    text_tokens = int(offsets[-1]) - len(lengths) * len(head + tail)
    return {
        "documents": len(lengths),
        "tokens": int(offsets[-1]),
        "text_bytes": text_bytes,
        "bytes_per_token": round(text_bytes / max(text_tokens, 1), 4),
    }


def _document_marks(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    if tokenizer.eos_id is None:
        raise DataError("tokenizer: no end-of-document token; expected </s>, <|endoftext|> or the like in its file")
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id], [tokenizer.eos_id]


@dataclass(frozen=True)
class TokenShard:
    """One shard, memory-mapped: `tokens` uint16 (N,), `offsets` int64 (documents + 1,)."""

    tokens: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    vocab_size: int
    text_bytes: int

    @classmethod
    def open(cls, tokens_dir: Path, name: str) -> TokenShard:
        """Return the shard `name` ("train" or "valid") of a tokens artifact, verified.

        Raises: DataError if a file is missing; FormatError if sizes, offsets or token ids do not fit together.
        """
        path = tokens_dir / f"{name}.bin"
        try:
            summary = json.loads((tokens_dir / "summary.json").read_text())
            offsets = np.load(tokens_dir / f"{name}_offsets.npy", allow_pickle=False)
            size_bytes = path.stat().st_size
        except (OSError, ValueError) as error:
            raise DataError(f"{tokens_dir}: not a folder of token shards ({error})") from None
        if size_bytes == 0 or size_bytes != _DTYPE.itemsize * int(offsets[-1]):
            expected = _DTYPE.itemsize * int(offsets[-1])
            raise FormatError(f"{path}: {size_bytes} bytes; expected {expected}, as {name}_offsets.npy says")
        tokens = np.memmap(path, dtype=_DTYPE, mode="r")
        shard = cls(tokens, offsets, int(summary["vocab_size"]), int(summary[name]["text_bytes"]))
        shard._verify(path)
        return shard

    def _verify(self, path: Path) -> None:
        if self.offsets[0] != 0 or (np.diff(self.offsets) <= 0).any():
            raise FormatError(f"{path}: offsets must start at 0 and rise")
        for start in range(0, len(self.tokens), _SCAN_TOKENS):
            highest = int(self.tokens[start : start + _SCAN_TOKENS].max())
            if highest >= self.vocab_size:
                raise FormatError(f"{path}: token {highest} found; expected ids below {self.vocab_size}")

    @property
    def n_documents(self) -> int:
        """Documents in the shard."""
        return len(self.offsets) - 1

    def document(self, index: int) -> NDArray[np.uint16]:
        """Return document `index` with its BOS and EOS: uint16 (length,)."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]
