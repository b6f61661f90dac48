"""Lines of any file in bounded memory: an over-long line becomes a note, not a crash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["LongLine", "bounded_lines", "count_lines"]

CHUNK_BYTES = 1 << 18
_HEAD_BYTES = 256


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line over the limit: its length and its first bytes; the rest was dropped while reading."""

    n_bytes: int
    head: bytes


class _Line:
    """A line that is still growing, from one chunk to the next."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self.n_bytes = 0

    def extend(self, piece: bytes) -> None:
        self.n_bytes += len(piece)
        if self.n_bytes <= self._max_bytes:
            self._pieces.append(piece)
        elif self._pieces or self.n_bytes == len(piece):
            self._pieces = [b"".join([*self._pieces, piece[:_HEAD_BYTES]])[:_HEAD_BYTES]]

    def take(self) -> bytes | LongLine:
        whole, n_bytes = b"".join(self._pieces), self.n_bytes
        self._pieces, self.n_bytes = [], 0
        return whole if n_bytes <= self._max_bytes else LongLine(n_bytes, whole)


def bounded_lines(stream: BinaryIO, max_bytes: int, skip: int = 0) -> Iterator[bytes | LongLine]:
    """Yield each line without its newline, after passing over the first `skip` lines.

    A last line without a newline counts; an empty rest after the last newline does not.
    Cost: one pass; memory of one chunk plus `max_bytes`, whatever the line lengths.
    """
    line, rest = _Line(max_bytes), _pass_over(stream, skip)
    for chunk in _chunks(stream, rest):
        first, *others = chunk.split(b"\n")
        line.extend(first)
        for piece in others:
            yield line.take()
            line.extend(piece)
    if line.n_bytes:
        yield line.take()


def count_lines(stream: BinaryIO) -> int:
    """Return how many lines `bounded_lines` would yield."""
    count, last = 0, b"\n"
    for chunk in _chunks(stream, b""):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")


def _chunks(stream: BinaryIO, first: bytes) -> Iterator[bytes]:
    if first:
        yield first
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _pass_over(stream: BinaryIO, skip: int) -> bytes:
    """Return what was read beyond the first `skip` lines."""
    while skip:
        chunk = stream.read(CHUNK_BYTES)
        if not chunk:
            return b""
        found = chunk.count(b"\n")
        if found >= skip:
            return chunk.split(b"\n", skip)[skip]
        skip -= found
    return b""
