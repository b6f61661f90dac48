"""The one-file model: a safetensors container with weights, tokenizer, settings and provenance.

The container is specified in native/FORMAT.md; the native engine reads it with a parser of its own. This module
must not know how floats become int8 or int4 (tinylm.quantize) nor how a model runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, TensorSpec, deserialize, safe_open, serialize_file

from tinylm.config import ModelConfig, Precision, parse
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.manifest import fsync
from tinylm.outputs import check_output, safetensors_output, whole_file
from tinylm.weights import is_matrix, random_weights, unpack_bf16, weight_shapes

__all__ = [
    "FORMAT_VERSION",
    "INT4_GROUP",
    "ModelFile",
    "ModelHeader",
    "TokenizerKind",
    "is_matrix",
    "is_model_file",
    "random_weights",
    "read_model",
    "weight_shapes",
    "write_container",
]

FORMAT_VERSION = 1
INT4_GROUP = 32  # weights along K that share one scale
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit

TokenizerKind = Literal["sentencepiece", "hf", "bytes"]
Array = npt.NDArray[Any]
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "BF16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
_NAMES = {"<f4": "float32", "<u2": "bfloat16", "|i1": "int8", "|u1": "uint8"}


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says about itself beside its tensors."""

    config: ModelConfig
    precision: Precision
    tokenizer_kind: TokenizerKind
    bos_id: int | None
    eos_id: int | None
    add_bos: bool
    provenance: dict[str, Any]

    def metadata(self) -> dict[str, str]:
        """Return the strings of the file's `__metadata__`, digests excepted."""
        return {
            "format": "tinylm",
            "format_version": str(FORMAT_VERSION),
            "config": json.dumps(self.config.model_dump(mode="json"), sort_keys=True),
            "precision": self.precision,
            "tokenizer_kind": self.tokenizer_kind,
            "bos_id": "" if self.bos_id is None else str(self.bos_id),
            "eos_id": "" if self.eos_id is None else str(self.eos_id),
            "add_bos": "true" if self.add_bos else "false",
            "provenance": json.dumps(self.provenance, sort_keys=True),
        }


@dataclass(frozen=True)
class ModelFile:
    """A model file, read and checked."""

    path: Path
    header: ModelHeader
    digest: str
    tokenizer: bytes
    stored: dict[str, Array]

    @property
    def config(self) -> ModelConfig:
        """The model's shape and parts."""
        return self.header.config

    @property
    def precision(self) -> Precision:
        """How the weight matrices are stored."""
        return self.header.precision

    def tensors(self) -> dict[str, Array]:
        """Return every stored tensor but the tokenizer; bf16 as uint16 bits, int4 as packed nibbles."""
        return dict(self.stored)

    def dequantized(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return float32 weights under the names and shapes of `weight_shapes`."""
        shapes = weight_shapes(self.config)
        return {name: _to_float(self.stored, name, shape) for name, shape in shapes.items()}


def write_container(path: Path, header: ModelHeader, tensors: Mapping[str, Array], tokenizer: bytes) -> str:
    """Write a model file whole or not at all, making its folder where that is missing; return its digest.

    Args:    tensors: stored form: float32, bfloat16 bits as uint16, int8, or int4 nibbles as uint8.
    Raises:  FormatError for what reading would refuse: a tensor that does not fit the config, a token id beyond the
             vocabulary; DataError if `path` cannot be such a file; StageError if the disk refuses.
    """
    check_output(path)
    everything = {**tensors, "tokenizer": np.frombuffer(tokenizer, np.uint8)}
    everything = {name: np.ascontiguousarray(value) for name, value in everything.items()}
    metadata = header.metadata()
    _check_tensors(path, header.config, everything)
    metadata["sum64"] = f"{_sum64(metadata, everything):016x}"
    metadata["sha256"] = _sha256(metadata, everything)
    _parse_header(path, metadata)
    specs = {
        name: TensorSpec(
            dtype=_NAMES[value.dtype.str], shape=value.shape, data_ptr=value.ctypes.data, data_len=value.nbytes
        )
        for name, value in everything.items()
    }
    with whole_file(path) as temporary:
        with safetensors_output(temporary):
            serialize_file(specs, temporary, metadata=metadata)
        _sort_metadata(temporary)
        fsync(temporary)
    fsync(path.parent)
    return metadata["sha256"]


def is_model_file(path: Path) -> bool:
    """Return whether `path` can be read and says of itself that it is such a file."""
    try:
        metadata = safe_open(path, framework="numpy").metadata() or {}  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError, ValueError):
        return False
    return bool(metadata.get("format") == "tinylm")


def read_model(path: Path) -> ModelFile:
    """Return the checked content of the model file at `path`.

    Raises: DataError if it cannot be read; FormatError naming what is wrong, expected and found.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"model {path}: cannot be read ({error.strerror}); expected a TinyLM model file") from None
    metadata = _metadata(path, content)
    header = _parse_header(path, metadata)
    tensors = _parse_tensors(path, content)
    _check_tensors(path, header.config, tensors)
    if _sha256(metadata, tensors) != metadata["sha256"]:
        raise FormatError(f"model {path}: content does not match its digest; the file is damaged, export it again")
    tokenizer = tensors.pop("tokenizer").tobytes()
    return ModelFile(path, header, metadata["sha256"], tokenizer, tensors)


def _sort_metadata(path: Path) -> None:
    # safetensors writes metadata in random order; sorted in place, equal models are equal files.
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))
        if file.tell() != 8 + length:
            raise FormatError(f"model {path}: header of {len(text)} bytes, expected {length}")


def _sha256(metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for key in sorted(metadata.keys() - {"sha256"}):
        digest.update(f"{key}={metadata[key]}\0".encode())
    for name in sorted(tensors):
        digest.update(f"{name}:{tensors[name].dtype.str}{tensors[name].shape}\0".encode())
        digest.update(tensors[name].data if tensors[name].size else b"")
    return digest.hexdigest()


def _sum64(metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> int:
    # FORMAT.md section 5: one multiply per 8 bytes, so that the engine can afford it at every load.
    total = 0
    blobs = [metadata[key].encode() for key in sorted(metadata.keys() - {"sum64", "sha256"})]
    for blob in [np.frombuffer(blob, np.uint8) for blob in blobs] + [tensors[name] for name in sorted(tensors)]:
        total = (total * 0x9E3779B97F4A7C15 + _weighted_sum(blob) + blob.nbytes) % 2**64
    return total


def _weighted_sum(blob: Array) -> int:
    data = blob.reshape(-1).view(np.uint8)
    total, step = 0, 1 << 23
    for start in range(0, data.size, step):
        part = data[start : start + step]
        words = np.zeros(-(-part.size // 8), "<u8")
        words.view(np.uint8)[: part.size] = part
        weights = np.arange(start // 8, start // 8 + words.size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        total += int((words * weights).sum(dtype=np.uint64))
    return total % 2**64


def _metadata(path: Path, content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 10 or length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise FormatError(
            f"model {path}: header of {length:,} bytes in a file of {len(content):,}; "
            "the file is truncated, or of another tool: try `tinylm import`"
        )
    try:
        parsed = json.loads(content[8 : 8 + length].decode(), object_pairs_hook=_unique)
        metadata = parsed.get("__metadata__") if isinstance(parsed, dict) else None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"model {path}: header is not JSON ({error}); not a TinyLM model or damaged") from None
    if not isinstance(metadata, dict) or metadata.get("format") != "tinylm":
        raise FormatError(f"model {path}: no TinyLM metadata; use `tinylm import` for files of other tools")
    return cast(dict[str, str], metadata)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _parse_header(path: Path, metadata: dict[str, str]) -> ModelHeader:
    version = metadata.get("format_version")
    if version != str(FORMAT_VERSION):
        raise FormatError(
            f"model {path}: format version {version}, this TinyLM reads {FORMAT_VERSION}; export the model again"
        )
    known = {"format", "format_version", "config", "precision", "tokenizer_kind", "bos_id", "eos_id", "add_bos"}
    known |= {"provenance", "sum64", "sha256"}
    if metadata.keys() != known or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"model {path}: metadata keys {sorted(metadata)}, expected {sorted(known)}")
    try:
        config = parse(ModelConfig, _json_object(metadata["config"]), f"model {path}: config")
        return ModelHeader(
            config=config,
            precision=cast(Precision, _one_of(metadata, "precision", get_args(Precision))),
            tokenizer_kind=cast(TokenizerKind, _one_of(metadata, "tokenizer_kind", get_args(TokenizerKind))),
            bos_id=_token_id(metadata, "bos_id", config.vocab_size),
            eos_id=_token_id(metadata, "eos_id", config.vocab_size),
            add_bos=_one_of(metadata, "add_bos", ("true", "false")) == "true",
            provenance=_json_object(metadata["provenance"]),
        )
    except ConfigError as error:
        raise FormatError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"model {path}: {error}") from None


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text, object_pairs_hook=_unique)
    if not isinstance(value, dict):
        raise ValueError(f"metadata holds {text[:40]!r}, expected a JSON object")
    return value


def _one_of(metadata: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str:
    if metadata[key] not in allowed:
        raise ValueError(f"{key} is {metadata[key]!r}, expected one of {', '.join(allowed)}")
    return metadata[key]


def _token_id(metadata: Mapping[str, str], key: str, vocab_size: int) -> int | None:
    text = metadata[key]
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < vocab_size):
        raise ValueError(f"{key} is {text!r}, expected a token id below {vocab_size} or nothing")
    return int(text)


def _parse_tensors(path: Path, content: bytes) -> dict[str, Array]:
    try:
        entries: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError) as error:
        raise FormatError(f"model {path}: damaged container ({error}); export the model again") from None
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise FormatError(f"model {path}: tensor {name} has type {entry['dtype']}, expected {', '.join(_DTYPES)}")
        tensors[name] = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def _check_tensors(path: Path, config: ModelConfig, tensors: Mapping[str, Array]) -> None:
    left = set(tensors) - {"tokenizer"}
    _expect(path, tensors, "tokenizer", ("|u1",), None)
    for name, shape in weight_shapes(config).items():
        left.discard(name)
        if not is_matrix(name, shape):
            _expect(path, tensors, name, ("<f4",), shape)
            _check_finite(path, name, tensors[name])
            continue
        rows, width = shape
        stored = _expect(path, tensors, name, ("<f4", "<u2", "|i1", "|u1"), None)
        _expect(path, tensors, name, (stored,), (rows, -(-width // 2)) if stored == "|u1" else shape)
        if stored in ("|i1", "|u1"):
            scale = name.removesuffix("weight") + "scale"
            left.discard(scale)
            groups = (rows,) if stored == "|i1" else (rows, -(-width // INT4_GROUP))
            _expect(path, tensors, scale, ("<f4",), groups)
            _check_finite(path, scale, tensors[scale])
        else:
            _check_finite(path, name, tensors[name])
    if left:
        raise FormatError(f"model {path}: tensors that this model has no use for: {', '.join(sorted(left)[:5])}")


def _expect(
    path: Path, tensors: Mapping[str, Array], name: str, dtypes: tuple[str, ...], shape: tuple[int, ...] | None
) -> str:
    if name not in tensors:
        raise FormatError(f"model {path}: tensor {name} is missing")
    found = tensors[name]
    if found.dtype.str not in dtypes:
        allowed = " or ".join(_NAMES[dtype] for dtype in dtypes)
        raise FormatError(f"model {path}: tensor {name} has type {found.dtype}, expected {allowed}")
    if (found.shape != shape) if shape is not None else (found.ndim != (1 if name == "tokenizer" else 2)):
        raise FormatError(f"model {path}: tensor {name} has shape {found.shape}, expected {shape or 'two axes'}")
    return found.dtype.str


def _check_finite(path: Path, name: str, values: Array) -> None:
    finite = np.isfinite(values) if values.dtype.kind == "f" else (values & 0x7F80) != 0x7F80
    if not finite.all():
        raise FormatError(f"model {path}: tensor {name} holds NaN or infinity; export the model again")


def _to_float(stored: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    values = stored[name]
    if values.dtype == np.float32:
        return values
    if values.dtype == np.uint16:
        return unpack_bf16(values)
    scale = stored[name.removesuffix("weight") + "scale"]
    if values.dtype == np.int8:
        return values.astype(np.float32) * scale[:, None]
    rows, width = shape
    nibbles = np.stack((values & 15, values >> 4), axis=-1).reshape(rows, -1)[:, :width]
    spread = np.repeat(scale, INT4_GROUP, axis=1)[:, :width]
    restored: npt.NDArray[np.float32] = (nibbles.astype(np.float32) - 8) * spread
    return restored
