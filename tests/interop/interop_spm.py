"""A small SentencePiece model without training: the byte tokens, letters and made-up merges."""

from __future__ import annotations

import string

from tinylm.interop.sentencepiece_proto import build_sentencepiece
from tinylm.tokenizer import Piece


def spm_pieces(vocab_size: int) -> list[Piece]:
    """Return `vocab_size` pieces in llama2.c's order: specials, bytes, then merges before single characters."""
    pieces = [Piece("<unk>", 0.0, "unknown"), Piece("<s>", 0.0, "control"), Piece("</s>", 0.0, "control")]
    pieces += [Piece(f"<0x{byte:02X}>", 0.0, "byte") for byte in range(256)]
    singles = "\u2581" + string.ascii_lowercase
    pairs = [a + b for a in singles for b in "eaoi"]
    merges = pairs[: max(0, vocab_size - 259 - len(singles))]
    texts = [*merges, *singles][: vocab_size - 259]
    return pieces + [Piece(text, -float(rank), "normal") for rank, text in enumerate(texts)]


def spm_model(vocab_size: int, *, dummy_prefix: bool = False) -> bytes:
    """Return a .model of these pieces."""
    return build_sentencepiece(spm_pieces(vocab_size), dummy_prefix=dummy_prefix)
