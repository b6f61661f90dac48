"""LoRA adapters in PEFT's file format, merged into the weights of a model in memory."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.backends.transformers_layouts import LAYOUTS, Layout, Part
from tinylm.errors import DataError, FormatError
from tinylm.interop.checkpoint import Checkpoint, FloatArray
from tinylm.interop.hf_import import SafetensorsFolder, read_json

__all__ = ["merge_lora"]

_NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def merge_lora(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Return the model with the adapter in `folder` added to its weights: W + (alpha / r) B A.

    Args:   folder: adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes them.
    Raises: DataError for a kind of adapter that cannot be merged or fits another model; FormatError if damaged.
    """
    source = folder / "adapter_config.json"
    settings = read_json(source)
    _refuse_other_kinds(settings, str(source))
    tensors = SafetensorsFolder(folder, "adapter_model")
    pairs = _pairs(tensors, str(folder))
    weights = dict(checkpoint.weights)
    for module, (down, up) in pairs.items():
        scale = _scale(settings, module, down.shape[0], str(source))
        _add(weights, checkpoint, module, np.float32(scale) * (up @ down), str(folder))
    provenance = {**checkpoint.provenance, "lora": {"source": folder.name, "modules": len(pairs)}}
    return replace(checkpoint, weights=weights, provenance=provenance)


def _refuse_other_kinds(settings: dict[str, Any], source: str) -> None:
    if settings.get("peft_type") != "LORA":
        raise DataError(f"{source}: peft_type is {settings.get('peft_type')!r}; only LORA can be merged")
    for key in ("use_dora", "modules_to_save", "layer_replication", "alora_invocation_tokens"):
        if settings.get(key):
            raise DataError(f"{source}: {key} is set; only plain LoRA can be merged")
    if settings.get("bias", "none") != "none":
        raise DataError(f"{source}: bias is {settings['bias']!r}; only adapters without biases can be merged")


def _pairs(tensors: SafetensorsFolder, source: str) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return module → (A (r, in), B (out, r)) in float32."""
    sides: dict[str, dict[str, FloatArray]] = {}
    for name in tensors.names:
        match = _NAME.fullmatch(name)
        if match is None:
            raise FormatError(f"{source}: tensor {name} is not a LoRA matrix of a linear layer")
        sides.setdefault(match["module"], {})[match["side"]] = tensors.get(name)
    pairs = {}
    for module, found in sides.items():
        if set(found) != {"A", "B"}:
            raise FormatError(f"{source}: {module} has lora_{''.join(found)} only; expected A and B")
        down, up = found["A"], found["B"]
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise FormatError(f"{source}: {module} has A of shape {down.shape} and B of {up.shape}; ranks differ")
        pairs[module] = (down, up)
    if not pairs:
        raise FormatError(f"{source}: the adapter holds no tensor")
    return pairs


def _scale(settings: dict[str, Any], module: str, rank: int, source: str) -> float:
    alpha = _by_module(settings.get("alpha_pattern"), module, settings.get("lora_alpha", rank))
    stated = _by_module(settings.get("rank_pattern"), module, settings.get("r", rank))
    if stated != rank:
        raise FormatError(f"{source}: r is {stated!r} for {module}; its matrices have rank {rank}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise FormatError(f"{source}: lora_alpha is {alpha!r}; expected a number")
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _by_module(patterns: Any, module: str, default: Any) -> Any:
    """PEFT's alpha_pattern and rank_pattern: keys match the end of a module's name."""
    for key, value in (patterns or {}).items():
        if module == key or module.endswith(f".{key}"):
            return value
    return default


def _add(weights: dict[str, FloatArray], checkpoint: Checkpoint, module: str, delta: FloatArray, source: str) -> None:
    layout, part, layer = _find(checkpoint, module, source)
    config = checkpoint.config
    names = [f"{ours.format(i=layer)}.weight" for ours in part.ours]
    if any(name not in weights for name in names):
        raise DataError(f"{source}: {module} is not a part of this model")
    if part.form == "heads":
        delta = delta.reshape(config.n_heads, 3, config.head_width, -1).swapaxes(0, 1).reshape(delta.shape)
    rows = sum(weights[name].shape[0] for name in names)
    if delta.shape != (rows, weights[names[0]].shape[1]):
        raise DataError(f"{source}: {module} changes a {delta.shape} matrix; the model's is {(rows, weights[names[0]].shape[1])}")
    start = 0
    for name in names:
        stop = start + weights[name].shape[0]
        factor = math.sqrt(config.head_width) if layout.unscaled_attention and name.endswith("wq.weight") else 1.0
        weights[name] = weights[name] + np.float32(factor) * delta[start:stop]
        start = stop


def _find(checkpoint: Checkpoint, module: str, source: str) -> tuple[Layout, Part, int]:
    architecture = str(checkpoint.provenance.get("format", "")).rpartition(" ")[2]
    layout = LAYOUTS.get(architecture)
    if layout is None:
        raise DataError(f"{source}: an adapter can be merged into a Hugging Face import only, whose names it uses")
    layer = _LAYER.search(module)
    pattern = _LAYER.sub("{i}", module, count=1)
    for part in layout.parts:
        if part.theirs == pattern:
            return layout, part, int(layer.group()) if layer else 0
    raise DataError(f"{source}: {layout.architecture} has no layer {module}")
