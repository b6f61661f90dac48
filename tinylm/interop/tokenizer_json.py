"""Hugging Face tokenizer.json files made from other tokenizers: GPT-2's two files, and SentencePiece models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.errors import DataError
from tinylm.interop.sentencepiece_proto import NormalizerSettings, read_normalizer
from tinylm.tokenizer import Piece, SentencePieceTokenizer, Tokenizer, load_tokenizer

__all__ = [
    "PRE_TOKENIZERS",
    "byte_level_json",
    "check_writable",
    "piece_merges",
    "sentencepiece_json",
    "with_bos_template",
]

Json = dict[str, Any]
_SPACE = "\u2581"
# Pre-tokenisers by the name that GGUF files give them; the patterns are those of the models' own tokenizer.json.
_GPT2_SPLIT = None
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_SPLIT = _QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
PRE_TOKENIZERS = {"gpt-2": _GPT2_SPLIT, "default": _GPT2_SPLIT, "qwen2": _QWEN2_SPLIT, "llama-bpe": _LLAMA3_SPLIT}


def byte_level_json(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], special: Sequence[str], *, pre: str = "gpt-2"
) -> bytes:
    """Return the tokenizer.json of a byte-level BPE, the kind that GPT-2 introduced.

    Args: vocab: token in the byte alphabet → id.  special: tokens that never come out of text.
          pre: a key of PRE_TOKENIZERS, how text is cut before merging.
    """
    split = PRE_TOKENIZERS[pre]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": split is None}
    before: Json = byte_level
    if split is not None:
        cut = {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
        before = {"type": "Sequence", "pretokenizers": [cut, byte_level]}
    model = _bpe(vocab, merges, byte_fallback=False, unknown=None)
    added = [_special(vocab[token], token) for token in special]
    return _dump(added, None, before, {**byte_level, "use_regex": True}, model)


def sentencepiece_json(model: bytes) -> bytes:
    """Return the tokenizer.json that encodes every string as this SentencePiece BPE does.

    Where the model takes every text as it is, pieces are spelled with real spaces, so that U+2581 (which
    SentencePiece writes for a space) stays an ordinary character; else the usual "▁" spelling is kept.
    Raises: DataError where normalisation goes beyond what a tokenizer.json can state.
    """
    tokenizer = load_tokenizer(model)
    check_writable(tokenizer, "tokenizer.json")
    if not isinstance(tokenizer, SentencePieceTokenizer):
        raise DataError("tokenizer: not a SentencePiece model")
    normalizer = read_normalizer(model)
    pieces = tokenizer.pieces()
    if tokenizer.is_exact:
        pieces = [piece._replace(text=piece.text.replace(_SPACE, " ")) for piece in pieces]
    return _sentencepiece_dump(pieces, None if tokenizer.is_exact else normalizer)


def check_writable(tokenizer: Tokenizer | None, target: str) -> None:
    """Raise DataError if this is a SentencePiece model that other formats cannot state."""
    if not isinstance(tokenizer, SentencePieceTokenizer):
        return
    normalizer = read_normalizer(tokenizer.serialized())
    if not normalizer.is_bpe:
        raise DataError(f"{target}: only SentencePiece models of the BPE kind can be written; this one is of another")
    if normalizer.has_charsmap:
        raise DataError(f"{target}: tokenizer normalisation {normalizer.name!r} cannot be written")


def _sentencepiece_dump(pieces: list[Piece], normalizer: NormalizerSettings | None) -> bytes:
    vocab = {piece.text: token for token, piece in enumerate(pieces)}
    if len(vocab) != len(pieces):
        raise DataError("tokenizer: a piece appears twice; such a vocabulary cannot be written to tokenizer.json")
    unknown = next((piece.text for piece in pieces if piece.type == "unknown"), None)
    has_bytes = any(piece.type == "byte" for piece in pieces)
    model = _bpe(vocab, piece_merges(pieces), byte_fallback=has_bytes, unknown=unknown)
    added = [_special(i, piece.text) for i, piece in enumerate(pieces) if piece.type in ("control", "unknown")]
    decoders: list[Json] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if normalizer is None:
        return _dump(added, None, None, {"type": "Sequence", "decoders": decoders}, model)
    decoders.insert(0, {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "})
    if normalizer.dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    before = {"type": "Sequence", "normalizers": _normalizers(normalizer)}
    return _dump(added, before, None, {"type": "Sequence", "decoders": decoders}, model)


def _normalizers(settings: NormalizerSettings) -> list[Json]:
    def replaced(pattern: str, content: str) -> Json:
        return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

    collapse = [replaced(" +", " "), replaced(r"\A ", "")] if settings.collapse_spaces else []
    prefix = [{"type": "Prepend", "prepend": _SPACE}] if settings.dummy_prefix else []
    strip = [replaced(rf"{_SPACE}+\z", "")] if settings.collapse_spaces else []
    return [*collapse, *prefix, replaced(" ", _SPACE), *strip]


def piece_merges(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Return BPE merges, best first, that join what SentencePiece joins: any two pieces whose union is a piece.

    SentencePiece ranks a merge by the score of its result; equal results keep the order of their left part.
    """
    rank = {piece.text: i for i, piece in enumerate(pieces) if piece.type == "normal"}
    found = []
    for text, token in rank.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in rank and right in rank:
                found.append((-pieces[token].score, token, cut, (left, right)))
    return [pair for *_, pair in sorted(found)]


def with_bos_template(tokenizer_json: bytes, bos: str, bos_id: int) -> bytes:
    """Return the tokenizer.json with BOS put before every text that is encoded with special tokens."""
    settings = json.loads(tokenizer_json)
    token = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}
    settings["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [token, first],
        "pair": [token, first, token, second],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }
    return json.dumps(settings, ensure_ascii=False).encode()


def _bpe(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], *, byte_fallback: bool, unknown: str | None
) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": byte_fallback,
        "byte_fallback": byte_fallback,
        "ignore_merges": False,
        "vocab": dict(vocab),
        "merges": [list(pair) for pair in merges],
    }


def _special(token: int, text: str) -> Json:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token, "content": text, **flags}


def _dump(added: list[Json], normalizer: Json | None, before: Json | None, decoder: Json, model: Json) -> bytes:
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": before,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }
    return json.dumps(document, ensure_ascii=False).encode()
