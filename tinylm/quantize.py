"""Float weights to int8 or int4, and the writer of the one-file model.

int8: one scale per output row. int4: one scale per 32 weights along a row. Both symmetric; rounding rules are in
native/FORMAT.md section 4. Must not know how a model was trained or where it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.config import ModelConfig, Precision
from tinylm.errors import FormatError
from tinylm.modelfile import INT4_GROUP, ModelHeader, TokenizerKind, write_container
from tinylm.weights import is_matrix, pack_bf16, unpack_bf16, weight_shapes

__all__ = ["ModelSummary", "TensorError", "quantize_int4", "quantize_int8", "write_model"]

Floats = npt.NDArray[np.float32]
_CHUNK_WEIGHTS = 1 << 21  # weights handled at once, so that temporaries stay small
# What int4 models keep at int8: rounding here costs most and a lookup reads one row (docs/ENGINE.md).
_KEPT_INT8 = re.compile(r"head\.weight|\w+_embeddings\.")
# int4 steps to try, as the integer that a group's largest weight becomes (chosen; -8 is llama.cpp's Q4_0).
_INT4_TRIALS = (-8.0, -7.4, -6.8, 7.0, 7.45, 6.5)


@dataclass(frozen=True)
class TensorError:
    """How far a stored matrix is from its float original."""

    name: str
    max_error: float
    rms_error: float
    rms_weight: float


@dataclass(frozen=True)
class ModelSummary:
    """What `write_model` wrote."""

    path: Path
    precision: Precision
    digest: str
    file_bytes: int
    parameters: int
    errors: tuple[TensorError, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        return asdict(self) | {"path": self.path.name}


def write_model(
    path: Path,
    config: ModelConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    tokenizer: bytes,
    tokenizer_kind: TokenizerKind,
    bos_id: int | None,
    eos_id: int | None,
    precision: Precision,
    provenance: Mapping[str, Any],
    *,
    add_bos: bool = True,
) -> ModelSummary:
    """Write float `weights` as a model file of `precision`, whole or not at all.

    Args:    weights: float arrays under the names and shapes of `weight_shapes(config)`, no others.
             add_bos: whether a prompt starts with `bos_id` (GPT-2 has the id but does not use it so).
    Raises:  FormatError naming the weight that is missing, unknown, misshapen or not finite.
    """
    _check_weights(path, config, weights)
    stored: dict[str, npt.NDArray[Any]] = {}
    errors = []
    for name, shape in weight_shapes(config).items():
        values = np.ascontiguousarray(weights[name], np.float32)
        if not is_matrix(name, shape) or precision == "f32":
            stored[name] = values
        else:
            kept = precision == "int4" and _KEPT_INT8.match(name)
            parts, error = _store(name, values, "int8" if kept else precision)
            stored |= parts
            errors.append(error)
    header = ModelHeader(config, precision, tokenizer_kind, bos_id, eos_id, add_bos, dict(provenance))
    digest = write_container(path, header, stored, tokenizer)
    parameters = sum(values.size for values in weights.values())
    return ModelSummary(path, precision, digest, path.stat().st_size, parameters, tuple(errors))


def quantize_int8(rows: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return int8 (R, K) in -127..127 and float32 scales (R) with rows ≈ int8 * scale.

    Source: symmetric, nearest even; an all-zero row gets scale 0. No search for a clipped scale: below a few thousand
    columns the clipped weight costs more than the finer steps of the others gain (docs/ENGINE.md).
    """
    scale = (np.abs(rows).max(axis=1) / np.float32(127)).astype(np.float32)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    quantized = np.rint(rows * inverse[:, None]).clip(-127, 127)
    return quantized.astype(np.int8), scale


def quantize_int4(rows: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return nibbles (R, ceil(K/2)) and float32 scales (R, ceil(K/32)); value = (nibble - 8) * scale.

    Source: of several steps per group of 32, each refined by least squares, the one with the smallest squared error.
    """
    width = rows.shape[1]
    groups = -(-width // INT4_GROUP)
    padded = np.pad(rows, ((0, 0), (0, groups * INT4_GROUP - width))).reshape(-1, INT4_GROUP)
    best = np.take_along_axis(padded, np.abs(padded).argmax(axis=1)[:, None], axis=1)[:, 0]  # with its sign
    least = np.full(len(padded), np.inf, np.float32)
    scale, levels = np.zeros(len(padded), np.float32), np.zeros(padded.shape, np.float32)
    for trial in _INT4_TRIALS:
        tried, level, error = _int4_trial(padded, (best / np.float32(trial)).astype(np.float32))
        better = error < least
        least[better], scale[better], levels[better] = error[better], tried[better], level[better]
    nibbles = (levels + 8).astype(np.uint8).reshape(len(rows), -1)[:, : width + width % 2]
    packed: npt.NDArray[np.uint8] = nibbles[:, 0::2] | (nibbles[:, 1::2] << np.uint8(4))
    return packed, scale.reshape(len(rows), groups)


def _int4_trial(groups: Floats, scale: Floats) -> tuple[Floats, Floats, Floats]:
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    level = np.rint(groups * inverse[:, None]).clip(-8, 7)
    power = np.einsum("gk,gk->g", level, level)
    fitted = np.divide(np.einsum("gk,gk->g", groups, level), power, out=np.zeros_like(scale), where=power > 0)
    level = np.where(fitted[:, None] != 0, level, 0)
    error = np.square(groups - level * fitted[:, None]).sum(axis=1)
    return fitted, level, error


def _check_weights(path: Path, config: ModelConfig, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    shapes = weight_shapes(config)
    if missing := sorted(shapes.keys() - weights.keys()):
        raise FormatError(f"model {path}: weight {missing[0]} is missing ({len(missing)} in all)")
    if unknown := sorted(weights.keys() - shapes.keys()):
        raise FormatError(f"model {path}: the config has no use for weight {unknown[0]} ({len(unknown)} in all)")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise FormatError(f"model {path}: weight {name} has shape {weights[name].shape}, expected {shape}")
        if not np.isfinite(weights[name]).all():
            raise FormatError(f"model {path}: weight {name} holds NaN or infinity")


def _chunks(rows: Floats) -> Iterator[slice]:
    step = max(1, _CHUNK_WEIGHTS // rows.shape[1])
    return (slice(start, start + step) for start in range(0, len(rows), step))


def _store(name: str, rows: Floats, precision: Precision) -> tuple[dict[str, npt.NDArray[Any]], TensorError]:
    scale_name = name.removesuffix("weight") + "scale"
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    largest, squared = 0.0, 0.0
    for chunk in _chunks(rows):
        part = _store_chunk(rows[chunk], precision)
        distance = np.abs(part.pop("restored") - rows[chunk])
        largest = max(largest, float(distance.max()))
        squared += float(np.square(distance, dtype=np.float64).sum())
        for key, value in part.items():
            parts.setdefault(name if key == "values" else scale_name, []).append(value)
    rms_weight = float(np.sqrt(np.square(rows, dtype=np.float64).mean()))
    error = TensorError(name, largest, float(np.sqrt(squared / rows.size)), rms_weight)
    return {key: np.concatenate(values) for key, values in parts.items()}, error


def _store_chunk(rows: Floats, precision: Precision) -> dict[str, npt.NDArray[Any]]:
    if precision == "bf16":
        bits = pack_bf16(rows)
        return {"values": bits, "restored": unpack_bf16(bits)}
    if precision == "int8":
        levels, scale = quantize_int8(rows)
        return {"values": levels, "scale": scale, "restored": levels * scale[:, None]}
    nibbles, scale = quantize_int4(rows)
    width = rows.shape[1]
    level = np.stack((nibbles & 15, nibbles >> 4), axis=-1).reshape(len(rows), -1)[:, :width].astype(np.float32) - 8
    return {"values": nibbles, "scale": scale, "restored": level * np.repeat(scale, INT4_GROUP, axis=1)[:, :width]}
