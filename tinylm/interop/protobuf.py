"""The wire format of protobuf, walked field by field without making a message: long fields cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from tinylm.errors import FormatError

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "fields", "packed", "read_varint"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Buffer = TypeVar("Buffer", bytes, memoryview)


def fields(message: Buffer, what: str) -> Iterator[tuple[int, int | Buffer]]:
    """Yield (field number, value) of one message; all but varints as slices of it (of a memoryview: views).

    Args:   what: begins the errors, as in "SentencePiece model".
    Raises: FormatError where the message is damaged.
    """
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at, what)
        wire = tag & 7
        if wire == VARINT:
            number, at = read_varint(message, at, what)
            yield tag >> 3, number
            continue
        if wire == BYTES:
            size, at = read_varint(message, at, what)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise FormatError(f"{what}: wire type {wire} at byte {at}; the file is damaged")
        if size > len(message) - at:
            raise FormatError(f"{what}: field of {size} bytes at byte {at} passes the end of the file")
        yield tag >> 3, message[at : at + size]
        at += size


def read_varint(message: bytes | memoryview, at: int, what: str) -> tuple[int, int]:
    """Return the number at byte `at` and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise FormatError(f"{what}: number cut off at byte {at}; the file is damaged")


def packed(values: bytes | memoryview, what: str) -> Iterator[int]:
    """Yield the varints of a packed field."""
    at = 0
    while at < len(values):
        value, at = read_varint(values, at, what)
        yield value
