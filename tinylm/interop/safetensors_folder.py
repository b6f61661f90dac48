"""Tensors of a folder in safetensors files, single or sharded, and its JSON files; nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tinylm.errors import DataError, FormatError
from tinylm.interop.checkpoint import PICKLED, FloatArray, read_file

__all__ = ["SafetensorsFolder", "read_config", "read_json"]

# Far above any model's; as Python objects a file of brackets takes twenty times its size.
_MAX_JSON_BYTES = 2_000_000
_MAX_HEADER_BYTES = 2_000_000
_FLOATS = {"torch.float32", "torch.float16", "torch.bfloat16", "torch.float64"}
_MODEL_FILES = (".safetensors", ".gguf", ".bin", ".onnx")


class SafetensorsFolder:
    """The tensors of model.safetensors, or of the shards that model.safetensors.index.json names."""

    def __init__(self, folder: Path, stem: str = "model") -> None:
        self._readers: dict[str, Callable[[], Any]] = {}
        self.files: list[Path] = []
        index = folder / f"{stem}.safetensors.index.json"
        single = folder / f"{stem}.safetensors"
        if index.is_file():
            for shard in self._shards(index):
                self._open(folder / shard)
        elif single.is_file():
            self._open(single)
        else:
            raise DataError(self._absent(folder, stem))
        self.names = list(self._readers)

    @staticmethod
    def _absent(folder: Path, stem: str) -> str:
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        if pickles:
            return f"{folder}: only {pickles[0]}, {PICKLED}"
        return f"{folder}: no {stem}.safetensors and no index of shards"

    @staticmethod
    def _shards(index: Path) -> list[str]:
        table = read_json(index).get("weight_map")
        if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
            raise FormatError(f"{index}: weight_map is missing or not an object of file names")
        shards = sorted(set(table.values()))
        for shard in shards:
            if Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise FormatError(f"{index}: {shard!r} is not the name of a .safetensors file in this folder")
        return shards

    def _open(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path}: the index names this shard, but it is not there")
        _check_header(path)
        try:
            shard = safe_open(path, framework="pt")
            names: list[str] = list(shard.keys())  # type: ignore[no-untyped-call]
        except (SafetensorError, OSError, ValueError) as error:
            raise FormatError(f"{path}: not a safetensors file, or damaged ({error})") from None
        self.files.append(path)
        for name in names:
            if name in self._readers:
                raise FormatError(f"{path}: tensor {name} is in two shards")
            self._readers[name] = partial(shard.get_tensor, name)

    def get(self, name: str) -> FloatArray:
        """Return one tensor as float32."""
        try:
            tensor = self._readers[name]()
        except (SafetensorError, OSError, ValueError) as error:
            raise FormatError(f"tensor {name}: cannot be read ({error})") from None
        if str(tensor.dtype) not in _FLOATS:
            raise DataError(f"tensor {name} has type {tensor.dtype}; only float weights can be imported")
        return np.ascontiguousarray(tensor.float().numpy())


def _check_header(path: Path) -> None:
    """Raise FormatError if a safetensors file states a header that no model has."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _MAX_HEADER_BYTES:
        raise FormatError(f"{path}: states a header of {size:,} bytes; expected at most {_MAX_HEADER_BYTES:,}")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the settings in a model folder's config.json; DataError if it has none, naming the files that it has."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); expected a model's folder") from None
    if "config.json" not in names:
        models = [name for name in names if name.lower().endswith(_MODEL_FILES)]
        such = "".join(f", such as {folder / name}" for name in models[:1])
        raise DataError(
            f"{folder}: is a folder without config.json; expected one with config.json, model.safetensors and the "
            f"tokenizer's files: name such a folder, or a model file itself{such}"
        )
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; DataError if absent, FormatError if it is not one."""
    if path.is_file() and path.stat().st_size > _MAX_JSON_BYTES:
        raise FormatError(f"{path}: {path.stat().st_size:,} bytes of JSON; expected less than {_MAX_JSON_BYTES:,}")
    try:
        value = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path}: holds {type(value).__name__}; expected an object")
    return value
