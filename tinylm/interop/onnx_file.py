"""The facts of an ONNX file: its inputs, outputs, constants and metadata; nothing is run, weights are not copied.

Field numbers are those of onnx.proto (ModelProto, GraphProto, TensorProto, ValueInfoProto, OperatorSetIdProto).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from tinylm.errors import FormatError
from tinylm.interop.checkpoint import read_file
from tinylm.interop.protobuf import fields, packed

__all__ = ["OnnxFacts", "read_onnx"]

Value = int | memoryview
_MAX_NAMED = 50_000  # inputs, outputs and constants: far above any model's, and a bound on memory
_MAX_TEXT_BYTES = 1_000_000
_MAX_DIMS = 16
# TensorProto.DataType in order → (name, bytes of one element; 0: other than whole bytes).
_TYPES = (
    ("undefined", 0),
    ("float", 4),
    ("uint8", 1),
    ("int8", 1),
    ("uint16", 2),
    ("int16", 2),
    ("int32", 4),
    ("int64", 8),
    ("string", 0),
    ("bool", 1),
    ("float16", 2),
    ("double", 8),
    ("uint32", 4),
    ("uint64", 8),
    ("complex64", 8),
    ("complex128", 16),
    ("bfloat16", 2),
    *((f"float8 ({kind})", 1) for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")),
    ("uint4", 0),
    ("int4", 0),
    ("float4", 0),
)


@dataclass
class OnnxFacts:
    """What a graph says about itself; constants: name → (shape, bytes, type)."""

    producer: str = ""
    opset: int = 0
    nodes: int = 0
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    constants: dict[str, tuple[tuple[int, ...], int, str]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def read_onnx(path: Path) -> OnnxFacts:
    """Return the facts of the ONNX file at `path`; FormatError if it is damaged."""
    source, facts, version = str(path), OnnxFacts(), 0
    for number, value in fields(memoryview(read_file(path)), source):
        if number == 1 and isinstance(value, int):
            version = value
        elif number == 2:
            facts.producer = _text(value, source)
        elif number == 7:
            _graph(_message(value, source), facts, source)
        elif number == 8:
            domain, opset = _members(value, source, 1, 2)
            facts.opset = facts.opset if domain else max(facts.opset, _whole(opset, source))
        elif number == 14:
            key, stated = _members(value, source, 1, 2)
            facts.metadata[_text(key, source)] = _text(stated, source)
            _check_count(len(facts.metadata), source)
    if not version or not facts.opset or not facts.nodes or not facts.outputs:
        raise FormatError(f"{path}: no graph inside; not an ONNX file, or cut off")
    return facts


def _graph(graph: memoryview, facts: OnnxFacts, source: str) -> None:
    named = 0
    for number, value in fields(graph, source):
        if number == 1:
            facts.nodes += 1
            continue
        named += 1
        _check_count(named, source)
        if number == 5:
            name, constant = _constant(_message(value, source), source)
            facts.constants[name] = constant
        elif number in (11, 12):
            names = facts.inputs if number == 11 else facts.outputs
            names.append(_text(_members(value, source, 1)[0], source))


def _constant(tensor: memoryview, source: str) -> tuple[str, tuple[tuple[int, ...], int, str]]:
    """Return name, and shape, stored bytes and type; weights kept in another file count no bytes here."""
    name, kind, raw_bytes, listed_bytes = "", 0, 0, 0
    shape: list[int] = []
    for number, value in fields(tensor, source):
        if number == 1:
            shape += _dims(value, source)
        elif number == 2:
            kind = _whole(value, source)
        elif number == 8:
            name = _text(value, source)
        elif number == 9:
            raw_bytes = len(_message(value, source))
        elif number in (4, 5, 6, 7, 10, 11):  # values listed one by one
            listed_bytes += len(value) if isinstance(value, memoryview) else 1
        if len(shape) > _MAX_DIMS:
            raise FormatError(f"{source}: constant {name} has over {_MAX_DIMS} dimensions")
    if kind >= len(_TYPES):
        raise FormatError(f"{source}: constant {name} has unknown type {kind}")
    kind_name, item_bytes = _TYPES[kind]
    expected = math.prod(shape) * item_bytes
    if any(size >> 63 for size in shape) or (raw_bytes and expected and raw_bytes != expected):
        raise FormatError(
            f"{source}: constant {name} of shape {tuple(shape)} and type {kind_name} holds {raw_bytes} bytes"
        )
    return name, (tuple(shape), raw_bytes or listed_bytes, kind_name)


def _dims(value: Value, source: str) -> list[int]:
    """Return sizes from one field: a single number, or several packed."""
    if isinstance(value, int):
        return [value]
    if len(value) > 10 * _MAX_DIMS:
        raise FormatError(f"{source}: a constant has over {_MAX_DIMS} dimensions")
    return list(packed(value, source))


def _members(value: Value, source: str, *numbers: int) -> list[Value]:
    """Return the last values of these fields of an inner message; empty where absent."""
    found: dict[int, Value] = dict.fromkeys(numbers, memoryview(b""))
    for number, member in fields(_message(value, source), source):
        if number in found:
            found[number] = member
    return list(found.values())


def _message(value: Value, source: str) -> memoryview:
    if isinstance(value, int):
        raise FormatError(f"{source}: a number where a message was expected; the file is damaged")
    return value


def _whole(value: Value, source: str) -> int:
    if not isinstance(value, int):
        raise FormatError(f"{source}: bytes where a number was expected; the file is damaged")
    return value


def _text(value: Value, source: str) -> str:
    raw = _message(value, source)
    try:
        if len(raw) <= _MAX_TEXT_BYTES:
            return bytes(raw).decode()
    except UnicodeDecodeError:
        pass
    raise FormatError(f"{source}: a name of {len(raw):,} bytes is not UTF-8 or too long; the file is damaged")


def _check_count(count: int, source: str) -> None:
    if count > _MAX_NAMED:
        raise FormatError(f"{source}: over {_MAX_NAMED:,} constants, inputs and outputs; the file is damaged")
