"""One document's text made plain: mended encoding, one kind of quote and line end, no stray bytes."""

from __future__ import annotations

import re
import string
from typing import Literal

import ftfy

__all__ = ["Reason", "clean_text", "is_cut", "reject", "words"]

Reason = Literal["empty", "too_short", "too_long", "cut"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ufffd]")
_BLANKS = re.compile(r"[ \t\u00a0]+")
_LINE_BREAKS = re.compile(r" ?\n[ \n]*")
_TO_BLANK = str.maketrans(dict.fromkeys(string.punctuation, " "))
_ENDINGS = (".", "!", "?", "\u2026", "\u00bb", ":)")
_CLOSERS = "\"')]*_"


def clean_text(text: str) -> str:
    """Return `text` with mojibake mended, straight quotes, no control characters, single blanks and line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():  # ASCII has no mojibake and no curly quotes: skip the slow part
        text = ftfy.fix_text(text, unescape_html=False, normalization="NFC")
    text = _BLANKS.sub(" ", _CONTROL.sub("", text))
    return _LINE_BREAKS.sub("\n", text).strip()


def words(text: str) -> list[str]:
    """Return the lower-case words of `text`, without punctuation: what duplicates are judged by."""
    return text.lower().translate(_TO_BLANK).split()


def is_cut(text: str) -> bool:
    """Return whether `text` stops in mid-sentence."""
    return not text.rstrip(_CLOSERS + " \n").endswith(_ENDINGS)


def reject(n_words: int, text: str, min_words: int, max_words: int, drop_cut: bool) -> Reason | None:
    """Return why a cleaned document is dropped, or None if it stays."""
    if not n_words:
        return "empty"
    if n_words < min_words:
        return "too_short"
    if n_words > max_words:
        return "too_long"
    return "cut" if drop_cut and is_cut(text) else None
