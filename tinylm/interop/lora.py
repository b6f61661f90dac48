"""LoRA adapters in PEFT's file format, added to a Hugging Face model's weights while they are read."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import DataError, FormatError
from tinylm.interop.checkpoint import FloatArray
from tinylm.interop.safetensors_folder import SafetensorsFolder, read_json

__all__ = ["LoraAdapter"]

_NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")


_HUGE = 1e30  # no factor comes near


class LoraAdapter:
    """The matrices in a folder with adapter_config.json and adapter_model.safetensors, as PEFT writes them.

    Raises: DataError for a kind of adapter that cannot be merged; FormatError if damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._source = str(folder)
        self._settings = read_json(folder / "adapter_config.json")
        self._refuse_other_kinds()
        self._pairs = _pairs(SafetensorsFolder(folder, "adapter_model"), self._source)
        self._unused = set(self._pairs)

    def merged(self, name: str, weight: FloatArray, *, transposed: bool) -> FloatArray:
        """Return W + (alpha / r) B A for the weight called `name`, or `weight` where the adapter has nothing for it.

        Args: transposed: the file stores (in, out), as GPT-2's Conv1D does.
        """
        module = name.removesuffix(".weight")
        if module not in self._pairs or not name.endswith(".weight"):
            return weight
        self._unused.discard(module)
        down, up = self._pairs[module]
        delta = np.float32(self._scale(module, down.shape[0])) * (up @ down)
        if transposed:
            delta = delta.T
        if delta.shape != weight.shape:
            raise DataError(
                f"{self._source}: {module} changes a matrix of {delta.shape}; the model's is {weight.shape}"
            )
        return weight + delta

    def check_used(self) -> None:
        """Raise DataError if some of the adapter found no place in the model."""
        if self._unused:
            raise DataError(
                f"{self._source}: the model has no layer {sorted(self._unused)[0]}; the adapter is another's"
            )

    def _refuse_other_kinds(self) -> None:
        settings, source = self._settings, self._source
        if settings.get("peft_type") != "LORA":
            raise DataError(f"{source}: peft_type is {settings.get('peft_type')!r}; only LORA can be merged")
        for key in ("use_dora", "modules_to_save", "layer_replication", "alora_invocation_tokens"):
            if settings.get(key):
                raise DataError(f"{source}: {key} is set; only plain LoRA can be merged")
        if settings.get("bias", "none") != "none":
            raise DataError(f"{source}: bias is {settings['bias']!r}; only adapters without biases can be merged")

    def _scale(self, module: str, rank: int) -> float:
        alpha = _by_module(self._settings.get("alpha_pattern"), module, self._settings.get("lora_alpha", rank))
        stated = _by_module(self._settings.get("rank_pattern"), module, self._settings.get("r", rank))
        if stated != rank:
            raise FormatError(f"{self._source}: r is {stated!r} for {module}; its matrices have rank {rank}")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < _HUGE:
            raise FormatError(f"{self._source}: lora_alpha is {str(alpha)[:40]}; expected a number")
        return alpha / (math.sqrt(rank) if self._settings.get("use_rslora") else rank)


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
        if down.ndim != 2 or up.ndim != 2 or not 0 < down.shape[0] == up.shape[1]:
            raise FormatError(f"{source}: {module} has A of shape {down.shape} and B of {up.shape}; ranks differ")
        pairs[module] = (down, up)
    if not pairs:
        raise FormatError(f"{source}: the adapter holds no tensor")
    return pairs


def _by_module(patterns: Any, module: str, default: Any) -> Any:
    """Return what PEFT's alpha_pattern or rank_pattern says; keys match the end of a module's name."""
    if not isinstance(patterns, dict):
        return default
    found = (value for key, value in patterns.items() if module == key or module.endswith(f".{key}"))
    return next(found, default)
