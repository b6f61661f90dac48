"""What callers hand the engine, checked in Python: the extension would tell of a wrong type in its own words.

Must not know the extension, nor anything above it.
"""

from __future__ import annotations

import math
import operator
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tinylm.errors import ConfigError, DataError, EngineError

__all__ = [
    "each",
    "expect",
    "file_name",
    "id_list",
    "isa_name",
    "sample_index",
    "seconds",
    "setup_number",
    "text_bytes",
    "ticket_number",
    "token_array",
]

Item = TypeVar("Item")

_IDS = "text or a flat list of token ids"


def _shown(value: object) -> str:
    is_huge = isinstance(value, int) and value.bit_length() > 128  # of the largest, Python makes no text
    return f"{value.bit_length()} bits" if is_huge else repr(value)  # type: ignore[attr-defined]


def _whole(value: object) -> int | None:
    """Return an integer of any library as Python's own, None for all else: True is no number of things."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def setup_number(name: str, value: int | None) -> int | None:
    """Return a number of the engine's set-up; EngineError if it is neither None nor an integer of 64 bits.

    Of those, the engine says itself what it takes.
    """
    number = _whole(value)
    if value is not None and (number is None or number.bit_length() >= 64):
        raise EngineError(f"engine: {name} is {_shown(value)}, expected an integer of at most four digits")
    return number


def isa_name(isa: str, known: Sequence[str]) -> str:
    """Return `isa`; EngineError if it is neither "auto" nor one of `known`."""
    if isinstance(isa, str) and isa in ("auto", *known):
        return isa
    raise EngineError(f"engine: isa is {_shown(isa)}; this build and machine have auto, {', '.join(known)}")


def file_name(path: str | Path) -> bytes:
    """Return the path of a model file as the system takes it; DataError if it is none."""
    try:
        name = os.fsencode(path)
    except (TypeError, ValueError):
        name = b"\0"
    if b"\0" in name:  # where the system would end the name
        raise DataError(f"model {path!r}: is no path; expected that of a TinyLM model file")
    return name


def expect(name: str, value: Any, kind: type, wanted: str) -> None:
    """Raise ConfigError unless `value` is a `kind`; `wanted` says how one is written."""
    if not isinstance(value, kind):
        raise ConfigError(f"{name}: found {type(value).__name__}; expected {wanted}")


def sample_index(value: int) -> int:
    """Return the number of a sample; DataError if it is no integer of 0..2**64 - 1."""
    sample = _whole(value)
    if sample is None or not 0 <= sample < 1 << 64:
        raise DataError(f"sample: found {_shown(value)}; expected an integer of 0..2**64 - 1")
    return sample


def ticket_number(value: int) -> int:
    """Return a ticket, 0 for one beyond all that are given out; ConfigError if it is no integer."""
    ticket = _whole(value)
    if ticket is None:
        raise ConfigError(f"ticket: found {_shown(value)}; expected the integer that `submit` returned")
    return ticket if abs(ticket) < 1 << 63 else 0  # nobody has 0, as nobody has what it replaces


def seconds(name: str, value: float) -> float:
    """Return a length of time; ConfigError if it is no number."""
    try:
        found = math.nan if math.isnan(value) else float(value)
    except (TypeError, OverflowError):
        found = math.nan
    if math.isnan(found):
        raise ConfigError(f"{name}: found {_shown(value)}; expected seconds")
    return found


def each(name: str, items: Iterable[Item]) -> Iterator[Item]:
    """Return an iterator over `items`; DataError for what has none, and for text, whose items are its letters."""
    if isinstance(items, str | bytes):
        raise DataError(f"{name}: found a single text; expected a list: put it in brackets")
    try:
        return iter(items)
    except TypeError:
        raise DataError(f"{name}: found {type(items).__name__}; expected a list") from None


def token_array(tokens: Iterable[int]) -> array[int]:
    """Return the ids as int64 (T); DataError if they are no flat list of integers."""
    try:
        return array("q", iter(tokens))
    except (OverflowError, ValueError, TypeError):
        raise DataError(f"prompt: expected {_IDS}") from None


def id_list(prompt: Sequence[int]) -> list[int]:
    """Return the items of a prompt that is no text; DataError if it has none, such as a number, or is bytes."""
    try:
        if not isinstance(prompt, bytes | bytearray):  # text, but its items would pass for token ids
            return list(prompt)
    except TypeError:
        pass
    raise DataError(f"prompt: found {type(prompt).__name__}; expected {_IDS}")


def text_bytes(text: str) -> bytes:
    """Return the UTF-8 bytes of `text`; DataError if it is none, or at a lone surrogate."""
    if not isinstance(text, str):
        raise DataError(f"text: found {type(text).__name__}; expected text")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"text: lone surrogate at character {error.start}; expected valid Unicode") from None
