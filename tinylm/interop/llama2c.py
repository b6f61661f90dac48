"""llama2.c checkpoints: read `.bin` versions 0 (float), 1 (float) and 2 (int8) and `tokenizer.bin`; write version 0.

Source: the layouts of github.com/karpathy/llama2.c export.py, run.c and runq.c. RoPE there turns neighbouring
elements; TinyLM turns half against half, so the rows of wq and wk are reordered on the way in and out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.config import ModelConfig, parse
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.interop.checkpoint import (
    PICKLED,
    Checkpoint,
    FloatArray,
    Weights,
    check_weights,
    read_file,
    split_halves,
)
from tinylm.interop.sentencepiece_proto import build_sentencepiece
from tinylm.modelfile import weight_shapes
from tinylm.tokenizer import Piece, load_tokenizer

__all__ = ["V0_ORDER", "describe_llama2c", "read_llama2c", "read_tokenizer_bin"]

_MAGIC = 0x616B3432  # "ak42"
# A zip of PyTorch, or its older files; no shape in a header of version 0 begins like these.
_PICKLES = (b"PK\x03\x04", b"\x80\x02}", b"\x80\x02\x8a")
_HEADER_BYTES = 256  # of versions 1 and 2
_FIRST_BYTE_TOKEN = 3  # llama2.c's vocabulary: <unk>, <s>, </s>, then the 256 raw bytes
_SPACE = "\u2581"
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")

# Names inside a layer; version 0 stores all layers of one kind together, in this order.
V0_ORDER = (
    "attn_norm",
    "attn.wq",
    "attn.wk",
    "attn.wv",
    "attn.wo",
    "mlp_norm",
    "mlp.w_gate",
    "mlp.w_down",
    "mlp.w_up",
)
_NORMS = ("attn_norm", "mlp_norm")
_MATRICES = tuple(name for name in V0_ORDER if name not in _NORMS)


@dataclass
class _Cursor:
    """Takes arrays off a file's bytes in order, as views; never past the end."""

    data: bytes
    source: str
    at: int = 0

    def take(self, dtype: str, shape: tuple[int, ...], what: str) -> NDArray[Any]:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > len(self.data) - self.at:
            raise FormatError(
                f"{self.source}: {what} needs {size} bytes from byte {self.at}; the file ends at {len(self.data)}"
            )
        values = np.frombuffer(self.data, dtype, count=math.prod(shape), offset=self.at)
        self.at += size
        return values.reshape(shape)

    def finish(self) -> None:
        if self.at != len(self.data):
            raise FormatError(f"{self.source}: {len(self.data) - self.at} bytes after the last weight; expected none")


@dataclass(frozen=True)
class _Header:
    version: int
    config: ModelConfig
    group_size: int = 0  # version 2: weights that share one scale


def read_llama2c(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Return the model in a llama2.c `.bin` file.

    Args:   tokenizer: its `tokenizer.bin` or SentencePiece `.model`; by default one that lies beside it.
    Raises: DataError if a file is missing; FormatError if one is damaged or not of this format.
    """
    cursor = _open(path)
    header = _read_header(cursor)
    config = header.config
    found = tokenizer or _find_tokenizer(path)
    model = _read_tokenizer(found, config.vocab_size)
    weights = _read_weights(cursor, header)
    for i in range(config.n_layers):
        for name, heads in (("wq", config.n_heads), ("wk", config.n_kv_heads)):
            key = f"layers.{i}.attn.{name}.weight"
            weights[key] = split_halves(weights[key], heads, config.rotary_dim)
    weights = {name: weights[name] for name in weight_shapes(config)}
    check_weights(config, weights, str(path))
    loaded = load_tokenizer(model)
    provenance = {"format": f"llama2.c version {header.version}", "source": path.name, "tokenizer": found.name}
    return Checkpoint(config, weights, model, "sentencepiece", loaded.bos_id, loaded.eos_id, True, provenance)


def describe_llama2c(path: Path) -> tuple[ModelConfig, int, dict[str, tuple[tuple[int, ...], int]]]:
    """Return a `.bin`'s shape, its version, and each weight's shape and stored bytes; errors as `read_llama2c`."""
    cursor = _open(path)
    header = _read_header(cursor)
    shapes = weight_shapes(header.config)
    if header.version == 2:
        taken = _take_int8(cursor, header)
        sizes = {
            name: values.nbytes + (0 if scales is None else scales.nbytes) for name, (values, scales) in taken.items()
        }
    else:
        floats = _take_v0(cursor, header.config) if header.version == 0 else _take_v1(cursor, header.config)
        sizes = {name: rows.nbytes for name, rows in floats.items()}
    cursor.finish()
    return header.config, header.version, {name: (shapes[name], size) for name, size in sizes.items()}


def _read_weights(cursor: _Cursor, header: _Header) -> Weights:
    if header.version == 2:
        quantised = _take_int8(cursor, header)
        cursor.finish()  # the whole file is checked before anything is allocated
        return {name: _dequantise(*pair) for name, pair in quantised.items()}
    weights = _take_v0(cursor, header.config) if header.version == 0 else _take_v1(cursor, header.config)
    cursor.finish()
    return weights


def _open(path: Path) -> _Cursor:
    data = read_file(path)
    if data.startswith(_PICKLES):
        raise DataError(f"{path}: is {PICKLED}")
    return _Cursor(data, str(path))


def _read_header(cursor: _Cursor) -> _Header:
    magic = int(cursor.take("<u4", (1,), "the header")[0])
    if magic != _MAGIC:
        cursor.at = 0
        fields = [int(value) for value in cursor.take("<i4", (7,), "the header")]
        # Version 0 marks a head of its own by a negative vocabulary size.
        return _Header(0, _config(fields, tied=fields[5] > 0, source=cursor.source))
    version = int(cursor.take("<i4", (1,), "the version")[0])
    if version not in (1, 2):
        raise FormatError(f"{cursor.source}: llama2.c version {version}; versions 0, 1 and 2 can be read")
    fields = [int(value) for value in cursor.take("<i4", (7,), "the header")]
    tied = int(cursor.take("u1", (1,), "the header")[0])
    group = int(cursor.take("<i4", (1,), "the group size")[0]) if version == 2 else 0
    if tied not in (0, 1):
        raise FormatError(f"{cursor.source}: shared-classifier byte is {tied}; expected 0 or 1")
    cursor.take("u1", (_HEADER_BYTES - cursor.at,), "the header's padding")
    config = _config(fields, tied=bool(tied), source=cursor.source)
    if version == 2 and (group < 1 or config.d_model % group or config.d_ff % group):
        raise FormatError(f"{cursor.source}: group size {group} must divide {config.d_model} and {config.d_ff}")
    return _Header(version, config, group)


def _config(fields: list[int], tied: bool, source: str) -> ModelConfig:
    names = ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "context_length")
    values = dict(zip(names, fields, strict=True))
    values["vocab_size"] = abs(values["vocab_size"])
    try:
        return parse(ModelConfig, {**values, "tied_embeddings": tied}, source)
    except ConfigError as error:
        raise FormatError(f"{error}; the header is damaged, or this is not a llama2.c .bin") from None


def _take_v0(cursor: _Cursor, config: ModelConfig) -> Weights:
    shapes = weight_shapes(config)
    weights = {"tok_embeddings.weight": cursor.take("<f4", shapes["tok_embeddings.weight"], "the embedding")}
    for name in V0_ORDER:
        stacked = cursor.take("<f4", (config.n_layers, *shapes[f"layers.0.{name}.weight"]), name)
        weights |= {f"layers.{i}.{name}.weight": stacked[i] for i in range(config.n_layers)}
    weights["norm.weight"] = cursor.take("<f4", shapes["norm.weight"], "the last norm")
    cursor.take("<f4", (config.context_length, config.head_width), "the RoPE tables")  # recomputed, as run.c does
    if not config.tied_embeddings:
        weights["head.weight"] = cursor.take("<f4", shapes["head.weight"], "the head")
    return weights


def _v1_names(config: ModelConfig) -> tuple[list[str], list[str]]:
    """Return the norms' names and the matrices' names in the order of versions 1 and 2."""
    layers = range(config.n_layers)
    norms = [f"layers.{i}.{name}.weight" for name in _NORMS for i in layers] + ["norm.weight"]
    matrices = ["tok_embeddings.weight"]
    matrices += [f"layers.{i}.{name}.weight" for name in _MATRICES for i in layers]
    return norms, matrices if config.tied_embeddings else [*matrices, "head.weight"]


def _take_v1(cursor: _Cursor, config: ModelConfig) -> Weights:
    shapes = weight_shapes(config)
    norms, matrices = _v1_names(config)
    return {name: cursor.take("<f4", shapes[name], name) for name in norms + matrices}


def _take_int8(cursor: _Cursor, header: _Header) -> dict[str, tuple[NDArray[Any], NDArray[Any] | None]]:
    """Return (values, None) of each norm and (int8 values, one scale per group) of each matrix, as views."""
    shapes = weight_shapes(header.config)
    norms, matrices = _v1_names(header.config)
    taken: dict[str, tuple[NDArray[Any], NDArray[Any] | None]] = {}
    for name in norms:
        taken[name] = (cursor.take("<f4", shapes[name], name), None)
    for name in matrices:
        rows, columns = shapes[name]
        values = cursor.take("i1", (rows, columns // header.group_size, header.group_size), name)
        taken[name] = (values, cursor.take("<f4", (*values.shape[:2], 1), f"the scales of {name}"))
    return taken


def _dequantise(values: NDArray[Any], scales: NDArray[Any] | None) -> FloatArray:
    if scales is None:
        return values
    rows: FloatArray = (values.astype(np.float32) * scales).reshape(values.shape[0], -1)
    return rows


def _find_tokenizer(path: Path) -> Path:
    for pattern in ("tokenizer.model", "tokenizer.bin", "tok*.model", "tok*.bin"):
        for candidate in sorted(path.parent.glob(pattern)):
            return candidate
    raise DataError(f"{path}: no tokenizer beside it; name its tokenizer.bin or .model with --tokenizer")


def _read_tokenizer(path: Path, vocab_size: int) -> bytes:
    data = read_file(path)
    model = data if path.suffix.lower() == ".model" else read_tokenizer_bin(data, vocab_size, str(path))
    found = load_tokenizer(model).vocab_size
    if found != vocab_size:
        raise FormatError(f"{path}: {found} tokens; the model has {vocab_size}. Name the tokenizer it was trained with")
    return model


def read_tokenizer_bin(data: bytes, vocab_size: int, source: str) -> bytes:
    """Return the SentencePiece model equal to a llama2.c `tokenizer.bin` of `vocab_size` tokens."""
    cursor = _Cursor(data, source)
    cursor.take("<i4", (1,), "the longest token's length")
    pieces = [_take_piece(cursor, token) for token in range(vocab_size)]
    cursor.finish()
    return build_sentencepiece(pieces, dummy_prefix=True)


def _take_piece(cursor: _Cursor, token: int) -> Piece:
    score = float(cursor.take("<f4", (1,), f"the score of token {token}")[0])
    size = int(cursor.take("<i4", (1,), f"the length of token {token}")[0])
    if size < 0:
        raise FormatError(f"{cursor.source}: token {token} has length {size}; the file is damaged")
    raw = cursor.take("u1", (size,), f"the text of token {token}").tobytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{cursor.source}: token {token} is not UTF-8; found {raw[:16]!r}") from None
    if token == 0:
        return Piece("<unk>", 0.0, "unknown")
    if token < _FIRST_BYTE_TOKEN:
        return Piece(text.strip("\n"), 0.0, "control")  # export.py writes "\n<s>\n" and "\n</s>\n"
    if _BYTE_PIECE.fullmatch(text):
        return Piece(text, 0.0, "byte")
    return Piece(text.replace(" ", _SPACE), score, "normal")
