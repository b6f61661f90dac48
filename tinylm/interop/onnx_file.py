"""The facts of an ONNX file: its inputs, outputs, constants and metadata; nothing is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.errors import ConfigError, FormatError
from tinylm.interop.checkpoint import read_file

__all__ = ["OnnxFacts", "read_onnx"]


@dataclass(frozen=True)
class OnnxFacts:
    """What a graph says about itself; constants: name → (shape, bytes, type)."""

    producer: str
    opset: int
    nodes: int
    inputs: list[str]
    outputs: list[str]
    constants: dict[str, tuple[tuple[int, ...], int, str]]
    metadata: dict[str, str]


def read_onnx(path: Path) -> OnnxFacts:
    """Return the facts of the ONNX file at `path`.

    Raises: FormatError if it is damaged; ConfigError if the onnx package is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError("ONNX needs the onnx package; pip install 'tinylm[interop]'") from None
    try:
        model = onnx.ModelProto.FromString(read_file(path))
    except DecodeError as error:
        raise FormatError(f"{path}: not an ONNX file, or damaged ({error})") from None
    if not model.ir_version or not model.graph.node or not model.graph.output:
        raise FormatError(f"{path}: no graph inside; not an ONNX file, or cut off")
    constants = {tensor.name: _constant(path, tensor, onnx.TensorProto.DataType) for tensor in model.graph.initializer}
    return OnnxFacts(
        producer=model.producer_name,
        opset=max((entry.version for entry in model.opset_import if not entry.domain), default=0),
        nodes=len(model.graph.node),
        inputs=[value.name for value in model.graph.input],
        outputs=[value.name for value in model.graph.output],
        constants=constants,
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


# Bytes of one element, for the types that models' weights have.
_ITEM_BYTES = {
    "FLOAT": 4,
    "FLOAT16": 2,
    "BFLOAT16": 2,
    "DOUBLE": 8,
    "INT8": 1,
    "UINT8": 1,
    "INT32": 4,
    "INT64": 8,
    "BOOL": 1,
}


def _constant(path: Path, tensor: Any, types: Any) -> tuple[tuple[int, ...], int, str]:
    """Return shape, stored bytes and type of one constant; weights kept in another file count no bytes here."""
    if tensor.data_type not in types.values():
        raise FormatError(f"{path}: constant {tensor.name} has unknown type {tensor.data_type}")
    kind, shape, raw_bytes = types.Name(tensor.data_type), tuple(tensor.dims), len(tensor.raw_data)
    expected = math.prod(shape) * _ITEM_BYTES.get(kind, 0)
    if any(size < 0 for size in shape) or (raw_bytes and expected and raw_bytes != expected):
        raise FormatError(f"{path}: constant {tensor.name} of shape {shape} and type {kind} holds {raw_bytes} bytes")
    listed_bytes = 4 * (len(tensor.float_data) + len(tensor.int32_data)) + 8 * len(tensor.int64_data)
    return shape, raw_bytes or listed_bytes, kind.lower()
