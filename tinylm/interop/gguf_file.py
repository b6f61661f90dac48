"""A GGUF container, read with every length checked against the bytes that are left; no model knowledge here.

The `gguf` package's own reader trusts counts and lengths; here only its dequantisation is used.
Source: the GGUF specification in the ggml repository (docs/gguf.md), versions 2 and 3.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.interop.checkpoint import FloatArray, read_file

__all__ = ["GGUFFile", "GGUFTensor", "gguf_package", "read_gguf_file"]

_MAGIC = b"GGUF"
_SCALARS = dict(enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "|b1", None, None, "<u8", "<i8", "<f8")))
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4
_MIN_FIELD_BYTES = 13  # key length, empty key, type, one byte
_MIN_TENSOR_BYTES = 32  # name length, dimension count, one dimension, type, offset
# Far above any model's; they bound what a file of tiny texts or fields takes as Python objects.
_MAX_TEXTS, _MAX_TEXT_BYTES, _MAX_FIELDS, _MAX_TENSORS = 500_000, 16_000_000, 10_000, 20_000


@dataclass(frozen=True)
class GGUFTensor:
    """One tensor's place in the file; `shape` is (out, in) as everywhere here, the reverse of GGUF's own order."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    data: NDArray[np.uint8]

    def floats(self) -> FloatArray:
        """Return the tensor as float32, dequantised if need be."""
        kind = gguf_package().GGMLQuantizationType[self.type_name]
        rows = self.data.reshape(*self.shape[:-1], -1)
        if self.type_name in ("F32", "F16"):
            rows = rows.view("<f4" if self.type_name == "F32" else "<f2")
            return np.ascontiguousarray(rows, np.float32)
        values: FloatArray = gguf_package().quants.dequantize(rows, kind)
        return values.reshape(self.shape)


@dataclass(frozen=True)
class GGUFFile:
    """Key-value fields (scalars, strings, lists of strings, arrays of numbers) and tensors by name."""

    path: Path
    version: int
    fields: dict[str, Any]
    tensors: dict[str, GGUFTensor]


def gguf_package() -> Any:
    """Return the `gguf` module; ConfigError if the optional extra is not installed."""
    try:
        import gguf
    except ImportError:
        raise ConfigError("GGUF needs the gguf package; pip install 'tinylm[interop]'") from None
    return gguf


def read_gguf_file(path: Path) -> GGUFFile:
    """Return the checked content of a GGUF file.

    Raises: DataError if it cannot be read or stores weights in a type that cannot; FormatError if damaged.
    """
    cursor = _Cursor(read_file(path), str(path))
    if cursor.take(4) != _MAGIC:
        raise FormatError(f"{path}: does not begin with GGUF; not a GGUF file")
    version = cursor.number("<u4")
    if version not in (2, 3):
        raise FormatError(f"{path}: GGUF version {version}; little-endian versions 2 and 3 can be read")
    tensor_count, field_count = cursor.number("<u8"), cursor.number("<u8")
    cursor.check_count(field_count, _MIN_FIELD_BYTES, "fields", _MAX_FIELDS)
    fields: dict[str, Any] = {}
    for _ in range(field_count):
        key = cursor.string()
        if key in fields:
            raise FormatError(f"{path}: field {key} appears twice")
        fields[key] = cursor.value(cursor.number("<u4"), key)
    cursor.check_count(tensor_count, _MIN_TENSOR_BYTES, "tensors", _MAX_TENSORS)
    infos = [_tensor_info(cursor) for _ in range(tensor_count)]
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 16:
        raise FormatError(f"{path}: general.alignment is {alignment!r}; expected a power of two")
    start = -(-cursor.at // alignment) * alignment
    return GGUFFile(path, version, fields, _place(infos, cursor, start, alignment))


@dataclass
class _Cursor:
    data: bytes
    source: str
    at: int = 0
    texts: int = 0
    text_bytes: int = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise FormatError(f"{self.source}: {size} bytes wanted at byte {self.at}; the file has {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, dtype: str) -> Any:
        value = np.frombuffer(self.take(np.dtype(dtype).itemsize), dtype)[0]
        # The shortest decimal of a float32: 1e-05 was meant, not 9.999999747e-06.
        return float(str(value)) if dtype == "<f4" else value.item()

    def string(self) -> str:
        size = self.number("<u8")
        self.texts, self.text_bytes = self.texts + 1, self.text_bytes + size
        if self.texts > _MAX_TEXTS or self.text_bytes > _MAX_TEXT_BYTES:
            raise FormatError(
                f"{self.source}: {self.texts} texts of {self.text_bytes} bytes; no known model has so many"
            )
        raw = self.take(size)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self.source}: text at byte {self.at - len(raw)} is not UTF-8") from None

    def check_count(self, count: int, least_bytes: int, what: str, most: int | None = None) -> None:
        left = len(self.data) - self.at
        if most is not None and count > most:
            raise FormatError(f"{self.source}: {count} {what}; expected at most {most}")
        if count * least_bytes > left:
            raise FormatError(f"{self.source}: {count} {what} cannot fit the {left} bytes left")

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array(key)
        return self.number(self._scalar(kind, key))

    def _scalar(self, kind: int, key: str) -> str:
        dtype = _SCALARS.get(kind)
        if dtype is None:
            raise FormatError(f"{self.source}: field {key} has unknown type {kind}")
        return dtype

    def _array(self, key: str) -> list[str] | NDArray[Any]:
        kind, count = self.number("<u4"), self.number("<u8")
        if kind == _STRING:
            self.check_count(count, 8, f"texts of {key}", _MAX_TEXTS)
            return [self.string() for _ in range(count)]
        if kind == _ARRAY:
            raise FormatError(f"{self.source}: field {key} is an array of arrays; no known model has one")
        dtype = np.dtype(self._scalar(kind, key))
        self.check_count(count, dtype.itemsize, f"values of {key}")
        self.at += count * dtype.itemsize
        return np.frombuffer(self.data, dtype, count, self.at - count * dtype.itemsize)  # a view


@dataclass(frozen=True)
class _Info:
    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int


def _tensor_info(cursor: _Cursor) -> _Info:
    name = cursor.string()
    dims = cursor.number("<u4")
    if not 1 <= dims <= _MAX_DIMS:
        raise FormatError(f"{cursor.source}: tensor {name} has {dims} dimensions; expected 1 to {_MAX_DIMS}")
    sizes = struct.unpack(f"<{dims}Q", cursor.take(8 * dims))
    return _Info(name, tuple(reversed(sizes)), cursor.number("<u4"), cursor.number("<u8"))


def _place(infos: list[_Info], cursor: _Cursor, start: int, alignment: int) -> dict[str, GGUFTensor]:
    """Return the tensors as views, after checking that each lies inside the file and none overlap."""
    package = gguf_package()
    whole = np.frombuffer(cursor.data, np.uint8)
    tensors: dict[str, GGUFTensor] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.offset):
        try:
            kind = package.GGMLQuantizationType(info.type_id)
        except ValueError:
            raise FormatError(f"{cursor.source}: tensor {info.name} has unknown type {info.type_id}") from None
        block, block_bytes = package.GGML_QUANT_SIZES[kind]
        if kind.name not in _READABLE:
            raise DataError(f"{cursor.source}: tensor {info.name} is {kind.name}; readable are {', '.join(_READABLE)}")
        if info.shape[-1] % block or 0 in info.shape:
            raise FormatError(
                f"{cursor.source}: tensor {info.name} of shape {info.shape} is not whole {kind.name} blocks"
            )
        size = math.prod(info.shape) // block * block_bytes
        first = start + info.offset
        if info.offset % alignment or info.offset < end or first + size > len(cursor.data):
            raise FormatError(
                f"{cursor.source}: tensor {info.name}: {size} bytes at {first} overlap another or the end"
            )
        if info.name in tensors:
            raise FormatError(f"{cursor.source}: tensor {info.name} appears twice")
        end = info.offset + size
        tensors[info.name] = GGUFTensor(info.name, info.shape, kind.name, whole[first : first + size])
    return tensors


# Types that the gguf package turns into floats; Q4_K_M files mix Q4_K with Q6_K.
_READABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
