"""SentencePiece's .model file: the few protobuf fields needed to write one, and to read its settings.

Field numbers are those of sentencepiece_model.proto (ModelProto, TrainerSpec, NormalizerSpec).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.interop.protobuf import BYTES, FIXED32, VARINT, fields
from tinylm.tokenizer import Piece

__all__ = ["NormalizerSettings", "build_sentencepiece", "read_normalizer"]

_TYPES = {"normal": 1, "unknown": 2, "control": 3, "user": 4, "unused": 5, "byte": 6}
_WHAT = "SentencePiece model"
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
    """What a .model does to a text before cutting it up, and whether it cuts by BPE."""

    name: str = ""
    dummy_prefix: bool = True  # SentencePiece's own defaults
    collapse_spaces: bool = True
    has_charsmap: bool = False  # characters are rewritten (NFKC and the like)
    is_bpe: bool = False  # else unigram, words or characters


def read_normalizer(model: bytes) -> NormalizerSettings:
    """Return the normalizer's settings of a .model file; FormatError if the file is damaged."""
    specs: dict[int, dict[int, int | bytes]] = {2: {}, 3: {}}  # the trainer's and the normalizer's
    for number, value in fields(model, _WHAT):
        if number in specs and isinstance(value, bytes):
            specs[number] = dict(fields(value, _WHAT))
    trainer, spec = specs[2], specs[3]
    name = spec.get(1, b"")
    return NormalizerSettings(
        name=name.decode(errors="replace") if isinstance(name, bytes) else "",
        dummy_prefix=bool(spec.get(3, 1)),
        collapse_spaces=bool(spec.get(4, 1)),
        has_charsmap=bool(spec.get(2)),
        is_bpe=trainer.get(3) == _BPE,
    )


def _piece(piece: Piece) -> bytes:
    kind = b"" if piece.type == "normal" else _int_field(3, _TYPES[piece.type])
    return _bytes_field(1, piece.text.encode()) + _varint(2 << 3 | FIXED32) + struct.pack("<f", piece.score) + kind


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative int32 is written as its 64-bit two's complement
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | VARINT) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value
