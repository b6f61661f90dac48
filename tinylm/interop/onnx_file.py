"""The facts of an ONNX file: its inputs, outputs, constants and metadata; nothing is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

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
    constants = {}
    for tensor in model.graph.initializer:
        shape = tuple(tensor.dims)
        size = len(tensor.raw_data) or 4 * (len(tensor.float_data) + len(tensor.int32_data)) + 8 * len(
            tensor.int64_data
        )
        _check_size(path, tensor.name, shape, len(tensor.raw_data))
        constants[tensor.name] = (shape, size, onnx.TensorProto.DataType.Name(tensor.data_type).lower())
    return OnnxFacts(
        producer=model.producer_name,
        opset=max((entry.version for entry in model.opset_import if not entry.domain), default=0),
        nodes=len(model.graph.node),
        inputs=[value.name for value in model.graph.input],
        outputs=[value.name for value in model.graph.output],
        constants=constants,
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def _check_size(path: Path, name: str, shape: tuple[int, ...], raw_bytes: int) -> None:
    if any(size < 0 for size in shape) or raw_bytes % max(math.prod(shape), 1):
        raise FormatError(f"{path}: constant {name} of shape {shape} holds {raw_bytes} bytes")
