"""Finding the tokenizer of a Hugging Face folder: tokenizer.json, tokenizer.model, or GPT-2's vocab and merges."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.errors import DataError, FormatError
from tinylm.interop.checkpoint import read_file
from tinylm.interop.tokenizer_json import byte_level_json
from tinylm.modelfile import TokenizerKind
from tinylm.tokenizer import load_tokenizer

__all__ = ["FoundTokenizer", "find_hf_tokenizer"]

_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class FoundTokenizer:
    """A tokenizer and how the model's texts begin and end."""

    model: bytes
    kind: TokenizerKind
    file: str
    bos_id: int | None
    eos_id: int | None
    add_bos: bool


def find_hf_tokenizer(place: Path, settings: dict[str, Any], vocab_size: int) -> FoundTokenizer:
    """Return the tokenizer in `place`, a folder or one file; `settings` is the model's config.json.

    Raises: DataError if there is none or it has more tokens than the model; FormatError if it is damaged.
    """
    path = _tokenizer_file(place)
    model = _from_vocab_and_merges(path.parent) if path.name == "vocab.json" else read_file(path)
    tokenizer = load_tokenizer(model)
    if tokenizer.vocab_size > vocab_size:
        raise DataError(f"{path}: {tokenizer.vocab_size} tokens, the model has {vocab_size}; this is another model's")
    tokenizer.token_bytes()  # says now, not at the first story, if the tokenizer is of a kind that has no bytes
    folder = path.parent
    bos = _special_id(settings, folder, "bos_token_id", vocab_size)
    eos = _special_id(settings, folder, "eos_token_id", vocab_size)
    kind: TokenizerKind = "hf" if tokenizer.kind == "hf" else "sentencepiece"
    return FoundTokenizer(model, kind, path.name, bos, eos, bos is not None and _adds_bos(folder, model, kind))


def _tokenizer_file(place: Path) -> Path:
    if place.is_file():
        return place
    both = (place / "tokenizer.model", place / "tokenizer.json")
    if all(path.is_file() for path in both) and _encode_alike(*both):
        return both[0]  # the original, which more formats can carry
    for name in ("tokenizer.json", "tokenizer.model"):
        if (place / name).is_file():
            return place / name
    if (place / "vocab.json").is_file() and (place / "merges.txt").is_file():
        return place / "vocab.json"
    raise DataError(
        f"{place}: no tokenizer.json, tokenizer.model, or vocab.json with merges.txt; name one with --tokenizer"
    )


def _encode_alike(first: Path, second: Path) -> bool:
    """Whether two tokenizer files give the same ids to texts on which such files usually part."""
    try:
        one, other = load_tokenizer(first), load_tokenizer(second)
    except FormatError:
        return False
    texts = ("Once upon a time", " a", "  two  spaces  ", "a\n\nb\tc", "\u00e9\u65e5 12 \U0001f388", "\u2581")
    return one.vocab_size == other.vocab_size and all(one.encode(text) == other.encode(text) for text in texts)


def _from_vocab_and_merges(folder: Path) -> bytes:
    try:
        vocab = json.loads(read_file(folder / "vocab.json"))
        lines = read_file(folder / "merges.txt").decode().split("\n")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{folder}: vocab.json or merges.txt is damaged ({error})") from None
    if not isinstance(vocab, dict) or not all(type(token) is int for token in vocab.values()):
        raise FormatError(f"{folder / 'vocab.json'}: expected an object of token → id")
    merges = []
    for number, line in enumerate(lines, 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise FormatError(
                f"{folder / 'merges.txt'}: line {number} is {line[:40]!r}; expected two tokens of the vocabulary"
            )
        merges.append((pair[0], pair[1]))
    return byte_level_json(vocab, merges, [_END_OF_TEXT] if _END_OF_TEXT in vocab else [])


def _special_id(settings: dict[str, Any], folder: Path, key: str, vocab_size: int) -> int | None:
    """Return the id from config.json, else generation_config.json; the first where several end a text."""
    for source in (settings, _optional_json(folder / "generation_config.json")):
        value = source.get(key)
        if isinstance(value, list):
            value = value[0] if value else None
        if type(value) is int and 0 <= value < vocab_size:
            return value
    return None


def _adds_bos(folder: Path, model: bytes, kind: TokenizerKind) -> bool:
    """Whether transformers puts BOS before a prompt: GPT-2's tokenizer does not, Llama's does."""
    declared = _optional_json(folder / "tokenizer_config.json").get("add_bos_token")
    if isinstance(declared, bool):
        return declared
    if kind == "sentencepiece":
        return True
    processor = json.loads(model).get("post_processor") or {}
    steps = processor.get("processors", [processor])
    templates = [step["single"] for step in steps if step.get("type") == "TemplateProcessing"]
    return any(template and "SpecialToken" in template[0] for template in templates)


def _optional_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
