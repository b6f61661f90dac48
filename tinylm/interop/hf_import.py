"""Hugging Face folders and hub names: config.json, safetensors weights and the tokenizer; nothing is unpickled."""

from __future__ import annotations

import re
from pathlib import Path

from tinylm.backends.transformers_layouts import Layout, Part, to_ours
from tinylm.errors import DataError, FormatError
from tinylm.interop.checkpoint import Checkpoint, FloatArray, check_weights
from tinylm.interop.hf_config import read_hf_config
from tinylm.interop.hf_tokenizer import find_hf_tokenizer
from tinylm.interop.lora import LoraAdapter
from tinylm.interop.safetensors_folder import SafetensorsFolder, read_config

__all__ = ["download", "is_hub_name", "read_hf"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LAYER = re.compile(r"\.\d+\.")
_WANTED = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt")


def read_hf(folder: Path, tokenizer: Path | None = None, lora: Path | None = None) -> Checkpoint:
    """Return the model in a folder that transformers' save_pretrained (or the hub) made.

    Args:   tokenizer: a tokenizer.json, .model or folder to use instead of the folder's own.
            lora: a PEFT adapter's folder, merged into the weights.
    Raises: DataError if a file is missing or the model has parts that TinyLM lacks; FormatError if damaged.
    """
    settings = read_config(folder)
    shape = read_hf_config(settings, str(folder / "config.json"))
    found = find_hf_tokenizer(tokenizer or folder, settings, shape.config.vocab_size)
    tensors = SafetensorsFolder(folder)
    names = _full_names(tensors.names, shape.layout)
    adapter = LoraAdapter(lora) if lora is not None else None
    transposed = tuple(part for part in shape.layout.parts if part.form == "columns")

    def get(name: str) -> FloatArray:
        weight = tensors.get(names[name])
        return adapter.merged(name, weight, transposed=_is_one_of(name, transposed)) if adapter else weight

    try:
        weights = to_ours(shape.layout, shape.config, names, get, shape.q_factors)
    except FormatError as error:
        raise FormatError(f"{folder}: {error}") from None
    if adapter:
        adapter.check_used()
    check_weights(shape.config, weights, str(folder))
    provenance = {"format": f"Hugging Face {shape.layout.architecture}", "source": folder.name, "tokenizer": found.file}
    if lora is not None:
        provenance["lora"] = lora.name
    return Checkpoint(
        shape.config, weights, found.model, found.kind, found.bos_id, found.eos_id, found.add_bos, provenance
    )


def _is_one_of(name: str, parts: tuple[Part, ...]) -> bool:
    pattern = _LAYER.sub(".{i}.", name.removesuffix(".weight"), count=1)
    return any(part.theirs == pattern for part in parts)


def _full_names(names: list[str], layout: Layout) -> dict[str, str]:
    """Return the class's full tensor name → name in the file, where the file leaves out the inner prefix."""
    heads = ("lm_head.", "embed_out.")
    bare = not any(name.startswith(layout.prefix) for name in names)
    full = {(layout.prefix + name if bare and not name.startswith(heads) else name): name for name in names}
    if layout.model_type == "gpt_neox" and "lm_head.weight" in full:
        full["embed_out.weight"] = full.pop("lm_head.weight")
    return full


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
        folder = Path(snapshot_download(name, allow_patterns=list(_WANTED), etag_timeout=10))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{name}: no such folder, and the hub did not give it ({reason[0] if reason else type(error).__name__}); "
            "check the name and the network, or download the folder by other means and name its path"
        ) from None
    if not any(folder.glob("*.safetensors")):
        raise DataError(
            f"{name}: the hub has no safetensors of it, perhaps only pytorch_model.bin, a pickle, which can run code "
            f"when opened; TinyLM never unpickles. Convert it: AutoModelForCausalLM.from_pretrained({name!r})"
            ".save_pretrained(folder), with its tokenizer's files beside, and import that folder"
        )
    return folder
