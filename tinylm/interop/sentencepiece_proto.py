"""SentencePiece's .model file: the few protobuf fields needed to write one, and to read its settings.

Field numbers are those of sentencepiece_model.proto (ModelProto, TrainerSpec, NormalizerSpec).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinylm.errors import FormatError
from tinylm.tokenizer import Piece

__all__ = ["NormalizerSettings", "build_sentencepiece", "read_normalizer"]

_TYPES = {"normal": 1, "unknown": 2, "control": 3, "user": 4, "unused": 5, "byte": 6}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BPE = 2


def build_sentencepiece(
    pieces: Sequence[Piece], *, dummy_prefix: bool, unk_id: int = 0, bos_id: int | None = 1, eos_id: int | None = 2
) -> bytes:
    """Return a SentencePiece BPE .model with these pieces, identity normalisation and byte fallback."""
    body = b"".join(_bytes_field(1, _piece(piece)) for piece in pieces)
    trainer = (
        _int_field(3, _BPE)
        + _int_field(4, len(pieces))
        + _int_field(35, any(piece.type == "byte" for piece in pieces))
        + _int_field(40, unk_id)
        + _int_field(41, -1 if bos_id is None else bos_id)
        + _int_field(42, -1 if eos_id is None else eos_id)
        + _int_field(43, -1)
    )
    for number, index in ((45, unk_id), (46, bos_id), (47, eos_id)):
        if index is not None:
            trainer += _bytes_field(number, pieces[index].text.encode())
    normalizer = _bytes_field(1, b"identity") + _int_field(3, dummy_prefix) + _int_field(4, 0) + _int_field(5, 1)
    return body + _bytes_field(2, trainer) + _bytes_field(3, normalizer)


@dataclass(frozen=True)
class NormalizerSettings:
    """What a .model does to a text before cutting it up."""

    name: str = ""
    dummy_prefix: bool = True  # SentencePiece's own defaults
    collapse_spaces: bool = True
    has_charsmap: bool = False  # characters are rewritten (NFKC and the like)


def read_normalizer(model: bytes) -> NormalizerSettings:
    """Return the normalizer's settings of a .model file; FormatError if the file is damaged."""
    for number, value in _fields(model):
        if number == 3 and isinstance(value, bytes):
            spec = dict(_fields(value))
            name = spec.get(1, b"")
            return NormalizerSettings(
                name=name.decode(errors="replace") if isinstance(name, bytes) else "",
                dummy_prefix=bool(spec.get(3, 1)),
                collapse_spaces=bool(spec.get(4, 1)),
                has_charsmap=bool(spec.get(2)),
            )
    return NormalizerSettings()


def _piece(piece: Piece) -> bytes:
    kind = b"" if piece.type == "normal" else _int_field(3, _TYPES[piece.type])
    return _bytes_field(1, piece.text.encode()) + _varint(2 << 3 | _FIXED32) + struct.pack("<f", piece.score) + kind


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative int32 is written as its 64-bit two's complement
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of one protobuf message; fixed-width values as their raw bytes."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        wire = tag & 7
        if wire == _VARINT:
            number, at = _read_varint(message, at)
            yield tag >> 3, number
            continue
        if wire == _BYTES:
            size, at = _read_varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise FormatError(f"SentencePiece model: wire type {wire} at byte {at}; the file is damaged")
        if size > len(message) - at:
            raise FormatError(f"SentencePiece model: field of {size} bytes at byte {at} passes the end of the file")
        yield tag >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise FormatError(f"SentencePiece model: number cut off at byte {at}; the file is damaged")
