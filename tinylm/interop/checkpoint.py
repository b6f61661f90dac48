"""The common ground of all formats: one model in memory under TinyLM's own names, with its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.config import ModelConfig, Precision
from tinylm.errors import DataError, FormatError
from tinylm.modelfile import ModelFile, TokenizerKind, weight_shapes
from tinylm.quantize import ModelSummary, write_model

__all__ = ["PICKLED", "Checkpoint", "FloatArray", "Weights", "check_weights", "interleave", "read_file", "split_halves"]

# Of weights that only PyTorch reads.
PICKLED = (
    "a pickle, which can run code when opened; TinyLM never unpickles. "
    "Convert it: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
)
FloatArray = NDArray[np.float32]
Weights = dict[str, FloatArray]


@dataclass(frozen=True)
class Checkpoint:
    """One model, whatever file it came from: what every reader returns and every writer takes."""

    config: ModelConfig
    weights: Weights
    tokenizer: bytes
    tokenizer_kind: TokenizerKind
    bos_id: int | None
    eos_id: int | None
    add_bos: bool = True  # False: the prompt stands alone, BOS only opens an empty one (GPT-2)
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, file: ModelFile) -> Checkpoint:
        """Return the content of a one-file model, weights dequantised."""
        header = file.header
        return cls(
            file.config,
            file.dequantized(),
            file.tokenizer,
            header.tokenizer_kind,
            header.bos_id,
            header.eos_id,
            header.add_bos,
            {**header.provenance, "precision": header.precision, "model_digest": file.digest},
        )

    def save(self, path: Path, precision: Precision) -> ModelSummary:
        """Write the one-file model that the engine runs."""
        return write_model(
            path,
            self.config,
            self.weights,
            self.tokenizer,
            self.tokenizer_kind,
            self.bos_id,
            self.eos_id,
            precision,
            self.provenance,
            add_bos=self.add_bos,
        )


def check_weights(config: ModelConfig, weights: Mapping[str, FloatArray], source: str) -> None:
    """Raise FormatError unless `weights` are exactly those of `config`, each of its shape and finite."""
    expected = weight_shapes(config)
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected]
    if missing or extra:
        raise FormatError(f"{source}: weights missing: {missing[:4] or 'none'}, unknown: {extra[:4] or 'none'}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise FormatError(f"{source}: {name} has shape {weights[name].shape}; expected {shape}")
        if not np.isfinite(weights[name]).all():
            raise FormatError(f"{source}: {name} holds NaN or infinity; the file is damaged")


def split_halves(rows: FloatArray, heads: int, rotary_dim: int) -> FloatArray:
    """Return q or k rows (heads * D, ...) reordered from RoPE's neighbour pairs to its rotate-half pairs.

    Of each head's first `rotary_dim` rows the even ones move to the front; the result of attention is equal.
    """
    order = np.concatenate([np.arange(0, rotary_dim, 2), np.arange(1, rotary_dim, 2)])
    return _reorder(rows, heads, order)


def interleave(rows: FloatArray, heads: int, rotary_dim: int) -> FloatArray:
    """Return q or k rows (heads * D, ...) in RoPE's neighbour-pair order: the inverse of `split_halves`."""
    order = np.arange(rotary_dim).reshape(2, -1).T.ravel()
    return _reorder(rows, heads, order)


def _reorder(rows: FloatArray, heads: int, order: NDArray[np.int64]) -> FloatArray:
    width = rows.shape[0] // heads
    full = np.concatenate([order, np.arange(len(order), width)])
    grouped = rows.reshape(heads, width, *rows.shape[1:])[:, full]
    return np.ascontiguousarray(grouped.reshape(rows.shape))


def read_file(path: Path) -> bytes:
    """Return the bytes of `path`; DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
