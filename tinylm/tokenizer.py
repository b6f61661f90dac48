"""Text to token ids and back: SentencePiece models of our own or others, and Hugging Face tokenizer.json.

Text is *defined* as the join of token bytes, decoded as UTF-8 with bad bytes replaced, so the engine, the
evaluators and the exporters agree to the byte. Our own models are exact: decode(encode(s)) == s for every
valid Unicode string (identity normalisation, no dummy prefix, no stripping, byte fallback).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import sentencepiece
from pydantic import Field

from tinylm.config import Config
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.progress import ProgressReporter

__all__ = [
    "HuggingFaceTokenizer",
    "Piece",
    "SentencePieceTokenizer",
    "Tokenizer",
    "TokenizerConfig",
    "load_tokenizer",
    "train_tokenizer",
]

SPACE = "\u2581"  # SentencePiece writes a space as this block element
PieceType = Literal["normal", "unknown", "control", "byte", "user", "unused"]
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenizerConfig(Config):
    """How the project's own tokenizer is trained."""

    vocab_size: Annotated[int, Field(ge=300, le=65_535)] = Field(2048, description="tokens, 256 raw bytes included")
    character_coverage: Annotated[float, Field(gt=0.9, le=1)] = Field(
        0.9998, description="share of the text's characters that get a token of their own; the rest use raw bytes"
    )
    sample_bytes: Annotated[int, Field(gt=0)] = Field(
        64_000_000, description="text read at most; more is thinned by content hash, so memory stays flat"
    )


class Piece(NamedTuple):
    """One vocabulary entry, as exporters need it."""

    text: str
    score: float
    type: PieceType


class Tokenizer(ABC):
    """What every tokenizer offers, whatever file it came from."""

    kind: ClassVar[str]
    vocab_size: int
    bos_id: int | None
    eos_id: int | None

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without BOS or EOS. Control tokens never come out of text."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text; same as `encode` of each, in parallel threads."""

    @abstractmethod
    def pieces(self) -> list[Piece]:
        """Return the V vocabulary entries in id order."""

    @abstractmethod
    def serialized(self) -> bytes:
        """Return the bytes of the file that `load_tokenizer` reads."""

    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """Return V entries: the exact bytes each token adds to a text; b"" for control tokens."""

    @cached_property
    def _table(self) -> list[bytes]:
        return self.token_bytes()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`: the join of their bytes, undecodable bytes as U+FFFD.

        Ids past the vocabulary add nothing: some models pad their embedding.
        """
        table = self._table
        return b"".join([table[token] for token in ids if token < len(table)]).decode("utf-8", errors="replace")

    @cached_property
    def adds_prefix_space(self) -> bool:
        """Whether every text is encoded with a space before it, as foreign SentencePiece models do by default."""
        return self.decode(self.encode("a")) == " a"

    def with_specials(self, bos_id: int | None, eos_id: int | None) -> Tokenizer:
        """Return this tokenizer with its document marks set, as a model file records them."""
        self.bos_id, self.eos_id = bos_id, eos_id
        return self

    def digest(self) -> str:
        """Return the SHA-256 of the vocabulary: equal for equal pieces, whatever the file's other fields."""
        content = [self.kind, self.bos_id, self.eos_id, [list(piece) for piece in self.pieces()]]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model: ours (exact) or a foreign one, which encodes as its own settings say."""

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise FormatError(f"tokenizer: not a SentencePiece model ({error}); expected a .model file") from None
        self.vocab_size = self._processor.get_piece_size()
        self.bos_id = _id_or_none(self._processor.bos_id())
        self.eos_id = _id_or_none(self._processor.eos_id())

    @cached_property
    def is_exact(self) -> bool:
        """Whether every text survives encoding: byte fallback, nothing normalised, added or stripped."""
        probe = "  a  \u00e9\n \ufb01 "
        has_bytes = any(self._processor.is_byte(token) for token in range(self.vocab_size))
        return has_bytes and self.decode(self._processor.encode(probe)) == probe

    @cached_property
    def _space_mark_ids(self) -> list[int]:
        return [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]

    def encode(self, text: str) -> list[int]:
        if SPACE in text and self.is_exact:
            return self._encode_space_marks(text)
        ids: list[int] = self._processor.encode(_valid(text))
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        batch = [_valid(text) for text in texts]
        rows: list[list[int]] = self._processor.encode(batch)
        for index, text in enumerate(batch):
            if SPACE in text:
                rows[index] = self.encode(text)
        return rows

    def _encode_space_marks(self, text: str) -> list[int]:
        # A literal U+2581 would come back as a space; as three raw bytes it survives.
        first, *rest = text.split(SPACE)
        ids: list[int] = self._processor.encode(_valid(first))
        for part in rest:
            ids += self._space_mark_ids + self._processor.encode(_valid(part))
        return ids

    def pieces(self) -> list[Piece]:
        return [self._piece(token) for token in range(self.vocab_size)]

    def _piece(self, token: int) -> Piece:
        return Piece(self._processor.id_to_piece(token), self._processor.get_score(token), self._type(token))

    def _type(self, token: int) -> PieceType:
        model = self._processor
        if model.is_byte(token):
            return "byte"
        if model.is_control(token):
            return "control"
        if model.is_unknown(token):
            return "unknown"
        return "unused" if model.is_unused(token) else "normal"

    def token_bytes(self) -> list[bytes]:
        # One piece at a time: a vocabulary of 50,257 pieces would hold 8 MB more.
        return [_piece_bytes(self._piece(token)) for token in range(self.vocab_size)]

    def serialized(self) -> bytes:
        return self._model


class HuggingFaceTokenizer(Tokenizer):
    """A Hugging Face tokenizer.json: byte-level BPE (GPT-2 and after) or SentencePiece-like (Llama)."""

    kind = "hf"
    _BOS = ("<s>", "<|begin_of_text|>", "<bos>", "[BOS]", "<|startoftext|>", "<|endoftext|>")
    _EOS = ("</s>", "<|end_of_text|>", "<eos>", "[EOS]", "<|endoftext|>", "<|im_end|>")

    def __init__(self, model: bytes) -> None:
        import tokenizers  # here: only users of foreign models need it

        self._model = model
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(model.decode())  # first: it stops at what does not belong
            self._settings: dict[str, Any] = json.loads(model)
        except Exception as error:  # `tokenizers` raises bare Exception for a bad file
            raise FormatError(f"tokenizer: not a Hugging Face tokenizer.json ({error})") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # "</s>" inside a text is text
        self._vocab: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(self._vocab.values(), default=-1) + 1
        self.bos_id = self._first_known(self._BOS)
        self.eos_id = self._first_known(self._EOS)

    def _first_known(self, names: tuple[str, ...]) -> int | None:
        return next((self._vocab[name] for name in names if name in self._vocab), None)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(_valid(text), add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        batch = [_valid(text) for text in texts]
        return [row.ids for row in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)]

    @cached_property
    def _added(self) -> dict[int, dict[str, Any]]:
        return {int(entry["id"]): entry for entry in self._settings.get("added_tokens") or []}

    def pieces(self) -> list[Piece]:
        texts = {token: text for text, token in self._vocab.items()}
        return [Piece(texts.get(i, ""), 0.0, self._type(i, texts.get(i))) for i in range(self.vocab_size)]

    def _type(self, token: int, text: str | None) -> PieceType:
        if text is None:
            return "unused"
        if token in self._added:
            return "control" if self._added[token].get("special") else "user"
        is_byte = not self._is_byte_level and _BYTE_PIECE.fullmatch(text)
        return "byte" if is_byte else "normal"

    @cached_property
    def _is_byte_level(self) -> bool:
        found = set(_decoder_types(self._settings.get("decoder") or self._settings.get("pre_tokenizer")))
        if "ByteLevel" in found:
            return True
        if found & {"ByteFallback", "Metaspace", "Replace"}:
            return False
        raise FormatError(
            f"tokenizer.json: decoder {sorted(found) or 'missing'} is not supported; "
            "expected ByteLevel (GPT-2 style) or Metaspace/Replace/ByteFallback (Llama style)"
        )

    def token_bytes(self) -> list[bytes]:
        to_byte = _byte_level_alphabet() if self._is_byte_level else {}
        table = []
        for piece in self.pieces():
            if self._is_byte_level and piece.type == "normal":
                table.append(b"".join(to_byte.get(char) or char.encode() for char in piece.text))
            elif piece.type == "user":
                table.append(piece.text.encode())
            else:
                table.append(_piece_bytes(piece))
        return table

    def serialized(self) -> bytes:
        return self._model


def load_tokenizer(source: bytes | Path) -> Tokenizer:
    """Return the tokenizer in `source`: a SentencePiece .model or a Hugging Face tokenizer.json.

    Raises: DataError if the file cannot be read; FormatError if it is neither.
    """
    model = _read(source) if isinstance(source, Path) else source
    return HuggingFaceTokenizer(model) if model.lstrip()[:1] == b"{" else SentencePieceTokenizer(model)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"tokenizer {path}: cannot be read ({error.strerror})") from None


def train_tokenizer(
    cfg: TokenizerConfig, texts: Iterable[str], out_dir: Path, progress: ProgressReporter
) -> dict[str, Any]:
    """Train a SentencePiece BPE on `texts`; write tokenizer.model and summary.json to `out_dir`.

    Returns: the summary: vocabulary, digest, bytes of text read and bytes per token on that text.
    Raises:  DataError if there is no text; ConfigError if the text is too small for the vocabulary.
    """
    with progress.task("tokenizer", None, "bytes") as task:
        sample = _thin(texts, cfg.sample_bytes)
        sample_bytes = sum(len(text.encode()) for text in sample)
        if not sample_bytes:
            raise DataError("tokenizer: the corpus holds no text; expected at least one story")
        task.update(sample_bytes)
        tokenizer = SentencePieceTokenizer(_train_bpe(cfg, iter(sample)))
        probe = sample[:2000]
        tokens = sum(len(row) for row in tokenizer.encode_batch(probe))
    summary = {
        "vocab_size": tokenizer.vocab_size,
        "digest": tokenizer.digest(),
        "sample_documents": len(sample),
        "sample_bytes": sample_bytes,
        "bytes_per_token": round(sum(len(text.encode()) for text in probe) / max(tokens, 1), 4),
    }
    (out_dir / "tokenizer.model").write_bytes(tokenizer.serialized())
    (out_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _train_bpe(cfg: TokenizerConfig, texts: Iterator[str]) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=texts,
            model_writer=model,
            model_type="bpe",
            vocab_size=cfg.vocab_size,
            character_coverage=cfg.character_coverage,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            max_sentence_length=1 << 24,  # whole documents; the default drops those over 4,192 bytes
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,  # recorded in the file: a fixed number keeps its bytes equal
            minloglevel=2,
        )
    except RuntimeError as error:
        limit = re.search(r"value <= (\d+)", str(error))
        advice = f"at most {limit.group(1)} fit this text" if limit else str(error)
        raise ConfigError(f"vocab_size: {cfg.vocab_size} cannot be filled; {advice}; choose less or add text") from None
    return model.getvalue()


def _thin(texts: Iterable[str], limit_bytes: int) -> list[str]:
    """Return the texts, or the share with the smallest content hashes once they pass `limit_bytes`."""
    kept: list[tuple[int, str]] = []
    held_bytes, ceiling = 0, 1 << 64
    for text in texts:
        rank = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        if rank >= ceiling:
            continue
        kept.append((rank, text))
        held_bytes += len(text.encode())
        while held_bytes > limit_bytes and len(kept) > 1:
            ceiling //= 2
            kept = [entry for entry in kept if entry[0] < ceiling]
            held_bytes = sum(len(entry[1].encode()) for entry in kept)
    return [text for _, text in kept]


def _piece_bytes(piece: Piece) -> bytes:
    if piece.type == "byte":
        match = _BYTE_PIECE.fullmatch(piece.text)
        return bytes([int(match.group(1), 16)]) if match else b""
    if piece.type in ("control", "unknown"):
        return b""
    return piece.text.replace(SPACE, " ").encode()


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"text: lone surrogate at character {error.start}; expected valid Unicode") from None
    return text


def _id_or_none(token: int) -> int | None:
    return token if token >= 0 else None


def _decoder_types(settings: dict[str, Any] | None) -> Iterator[str]:
    if settings is None:
        return
    yield str(settings.get("type"))
    for part in settings.get("decoders") or settings.get("pretokenizers") or []:
        yield from _decoder_types(part)


def _byte_level_alphabet() -> dict[str, bytes]:
    """Return GPT-2's printable stand-in of each byte: itself where printable, else 256 and up in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): bytes([byte]) for byte in printable}
    return table | {chr(256 + index): bytes([byte]) for index, byte in enumerate(rest)}
