"""Hugging Face folders and hub names: config.json, safetensors weights and the tokenizer; nothing is unpickled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from tinylm.backends.transformers_layouts import Layout, to_ours
from tinylm.errors import DataError, FormatError
from tinylm.interop.checkpoint import Checkpoint, FloatArray, check_weights, read_file
from tinylm.interop.hf_config import read_hf_config
from tinylm.interop.hf_tokenizer import find_hf_tokenizer

__all__ = ["SafetensorsFolder", "download", "read_hf", "read_json"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt")
_MAX_JSON_BYTES = 64_000_000
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def read_hf(folder: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Return the model in a folder that transformers' save_pretrained (or the hub) made.

    Args:   tokenizer: a tokenizer.json, .model or folder to use instead of the folder's own.
    Raises: DataError if a file is missing or the model has parts that TinyLM lacks; FormatError if damaged.
    """
    settings = read_json(folder / "config.json")
    shape = read_hf_config(settings, str(folder / "config.json"))
    tensors = SafetensorsFolder(folder)
    names = _full_names(tensors.names, shape.layout)
    try:
        weights = to_ours(shape.layout, shape.config, names, lambda name: tensors.get(names[name]), shape.q_factors)
    except FormatError as error:
        raise FormatError(f"{folder}: {error}") from None
    check_weights(shape.config, weights, str(folder))
    found = find_hf_tokenizer(tokenizer or folder, settings, shape.config.vocab_size)
    provenance = {"format": f"Hugging Face {shape.layout.architecture}", "source": folder.name, "tokenizer": found.file}
    return Checkpoint(
        shape.config, weights, found.model, found.kind, found.bos_id, found.eos_id, found.add_bos, provenance
    )


def _full_names(names: list[str], layout: Layout) -> dict[str, str]:
    """Return the class's full tensor name → name in the file, where the file leaves out the inner prefix."""
    heads = ("lm_head.", "embed_out.")
    bare = not any(name.startswith(layout.prefix) for name in names)
    full = {(layout.prefix + name if bare and not name.startswith(heads) else name): name for name in names}
    if layout.model_type == "gpt_neox" and "lm_head.weight" in full:
        full["embed_out.weight"] = full.pop("lm_head.weight")
    return full


class SafetensorsFolder:
    """The tensors of model.safetensors, or of the shards that model.safetensors.index.json names."""

    def __init__(self, folder: Path, stem: str = "model") -> None:
        self._readers: dict[str, Callable[[], Any]] = {}
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
            return (
                f"{folder}: only {pickles[0]}, a pickle, which can run code when opened; TinyLM never unpickles. "
                "Convert it: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
            )
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
        try:
            shard = safe_open(path, framework="pt")
            names: list[str] = list(shard.keys())  # type: ignore[no-untyped-call]
        except (SafetensorError, OSError, ValueError) as error:
            raise FormatError(f"{path}: not a safetensors file, or damaged ({error})") from None
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
        if tensor.dtype not in _FLOATS:
            raise DataError(f"tensor {name} has type {tensor.dtype}; only float weights can be imported")
        return np.ascontiguousarray(tensor.float().numpy())


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


def is_hub_name(source: str) -> bool:
    """Return whether `source` has the form owner/name."""
    return bool(_HUB_NAME.fullmatch(source))


def download(name: str) -> Path:
    """Return the local folder of hub model `name`, fetched if need be.

    Raises: DataError if the hub cannot be reached or has no such model.
    """
    try:
        from huggingface_hub import snapshot_download  # here: only hub names need it
    except ImportError:
        raise DataError(f"{name}: fetching from the hub needs huggingface_hub; pip install 'tinylm[interop]'") from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED), etag_timeout=10))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{name}: no such folder, and the hub did not give it ({reason[0] if reason else type(error).__name__}); "
            "check the name and the network, or download the folder by other means and name its path"
        ) from None
