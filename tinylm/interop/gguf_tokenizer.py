"""The tokenizer inside a GGUF file: SentencePiece BPE ("llama") or byte-level BPE ("gpt2")."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from tinylm.errors import DataError, FormatError
from tinylm.interop.gguf_file import GGUFFile
from tinylm.interop.hf_tokenizer import FoundTokenizer
from tinylm.interop.sentencepiece_proto import build_sentencepiece
from tinylm.interop.tokenizer_json import PRE_TOKENIZERS, byte_level_json
from tinylm.tokenizer import Piece, PieceType, load_tokenizer

__all__ = ["TOKEN_TYPES", "read_gguf_tokenizer"]

TOKEN_TYPES: dict[int, PieceType] = {1: "normal", 2: "unknown", 3: "control", 4: "user", 5: "unused", 6: "byte"}
_KEY = "tokenizer.ggml."
_MAX_TOKENS = 1 << 20  # as in ModelConfig
T = TypeVar("T", str, bool)


def read_gguf_tokenizer(file: GGUFFile, vocab_size: int) -> FoundTokenizer:
    """Return the tokenizer in `file`.

    Raises: DataError for a kind that cannot be read; FormatError if its lists do not fit together.
    """
    kind = _stated(file, "model", "")
    tokens = _list(file, "tokens", str)
    if not 0 < len(tokens) <= vocab_size:
        raise FormatError(f"{file.path}: {len(tokens)} tokens for an embedding of {vocab_size} rows")
    bos, eos = _token_id(file, "bos_token_id", len(tokens)), _token_id(file, "eos_token_id", len(tokens))
    if kind == "llama":
        model, default_bos = _sentencepiece(file, tokens, bos, eos), True
    elif kind == "gpt2":
        model, default_bos = _byte_level(file, tokens), False
    else:
        raise DataError(
            f"{file.path}: tokenizer {kind!r} is not supported; supported: llama, gpt2; or name one with --tokenizer"
        )
    loaded = load_tokenizer(model)
    add_bos = _stated(file, "add_bos_token", default_bos) and bos is not None
    stored: Any = "hf" if loaded.kind == "hf" else "sentencepiece"
    return FoundTokenizer(model, stored, f"{kind} inside the file", bos, eos, add_bos)


def _sentencepiece(file: GGUFFile, tokens: list[str], bos: int | None, eos: int | None) -> bytes:
    scores, types = _list(file, "scores", float), _list(file, "token_type", int)
    if not len(tokens) == len(scores) == len(types):
        raise FormatError(f"{file.path}: {len(tokens)} tokens, {len(scores)} scores, {len(types)} types")
    unknown = next((i for i, kind in enumerate(types) if TOKEN_TYPES.get(kind) == "unknown"), None)
    if unknown is None or set(types) - TOKEN_TYPES.keys():
        raise FormatError(f"{file.path}: token types are {sorted(set(types))[:8]}; expected one unknown (2) and 1 to 6")
    if types.count(2) != 1 or len(set(tokens)) != len(tokens):
        raise FormatError(f"{file.path}: a token appears twice, or several are unknown")
    pieces = [Piece(*row) for row in zip(tokens, scores, (TOKEN_TYPES[kind] for kind in types), strict=True)]
    prefix = _stated(file, "add_space_prefix", True)
    return build_sentencepiece(pieces, dummy_prefix=prefix, unk_id=unknown, bos_id=bos, eos_id=eos)


def _byte_level(file: GGUFFile, tokens: list[str]) -> bytes:
    pre = _stated(file, "pre", "default")
    if pre not in PRE_TOKENIZERS:
        raise DataError(f"{file.path}: pre-tokenizer {pre!r} is not supported; supported: {', '.join(PRE_TOKENIZERS)}")
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise FormatError(f"{file.path}: a token appears twice in the vocabulary")
    merges = []
    for line in _list(file, "merges", str):
        pair = line.split(" ")
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise FormatError(f"{file.path}: merge {line[:40]!r} is not two tokens of the vocabulary")
        merges.append((pair[0], pair[1]))
    types = _list(file, "token_type", int) if _KEY + "token_type" in file.fields else [1] * len(tokens)
    if len(types) != len(tokens):
        raise FormatError(f"{file.path}: {len(tokens)} tokens, {len(types)} types")
    special = [token for token, kind in zip(tokens, types, strict=True) if TOKEN_TYPES.get(kind) == "control"]
    return byte_level_json(vocab, merges, special, pre=pre)


def _stated(file: GGUFFile, name: str, default: T) -> T:
    """Return a field that may be absent; FormatError if it is of another type than its default."""
    value = file.fields.get(_KEY + name, default)
    if type(value) is not type(default):
        raise FormatError(f"{file.path}: field {_KEY + name} is {str(value)[:40]!r}; expected {type(default).__name__}")
    return value


def _list(file: GGUFFile, name: str, kind: type[Any]) -> list[Any]:
    values = file.fields.get(_KEY + name)
    if isinstance(values, np.ndarray) and values.size <= _MAX_TOKENS:
        values = values.tolist()
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise FormatError(f"{file.path}: field {_KEY + name} is missing or not a list of {kind.__name__}")
    return values


def _token_id(file: GGUFFile, name: str, count: int) -> int | None:
    value = file.fields.get(_KEY + name)
    return value if type(value) is int and 0 <= value < count else None
