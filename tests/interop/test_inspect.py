"""`inspect_file` on every format: the facts are right, and damaged files are named errors."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_spm import spm_model

from tinylm.config import ModelConfig
from tinylm.errors import DataError, FormatError, UserError
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.exports import TARGETS, export_checkpoint
from tinylm.interop.inspect import inspect_file
from tinylm.modelfile import random_weights
from tinylm.weights import weight_shapes

CONFIG = ModelConfig(vocab_size=300, context_length=16, n_layers=2, n_heads=4, n_kv_heads=2, d_model=32, d_ff=64)
PARAMETERS = sum(int(np.prod(shape)) for shape in weight_shapes(CONFIG).values())
SLACK_BYTES = 64_000_000


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return Checkpoint(
        CONFIG, random_weights(CONFIG, 1), spm_model(300), "sentencepiece", 1, 2, True, {"source": "here"}
    )


@pytest.fixture(scope="session")
def files(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("gguf", reason="one of the formats is GGUF")
    pytest.importorskip("onnx", reason="one of the formats is ONNX")
    folder = tmp_path_factory.mktemp("formats")
    names = {"hf": "hf", "gguf": "model.gguf", "llama2c": "model.bin", "onnx": "model.onnx"}
    for target, name in names.items():
        export_checkpoint(checkpoint, target, folder / name, dtype="f32")
    checkpoint.save(folder / "int4.safetensors", "int4")
    return {target: folder / name for target, name in names.items()} | {"int4": folder / "int4.safetensors"}


@pytest.mark.parametrize("kind", ["hf", "gguf", "llama2c", "onnx", "int4"])
def test_the_facts_are_right(kind: str, files: dict[str, Path]) -> None:
    report = inspect_file(files[kind])
    assert {key: report.config[key] for key in ("n_layers", "d_model", "d_ff")} == {
        "n_layers": 2,
        "d_model": 32,
        "d_ff": 64,
    }
    if kind == "onnx":  # rotation tables and small numbers are constants too
        assert PARAMETERS < report.parameters < PARAMETERS + 500
    else:
        assert report.parameters == PARAMETERS
    assert 0.9 * report.total_bytes < sum(report.bytes_by_part.values()) + 80_000
    assert report.bytes_by_part["attention"] > 0
    assert report.bytes_by_part["feed-forward"] > 0
    assert report.exports == ({} if kind == "onnx" else dict.fromkeys(TARGETS, ""))
    assert ("300 tokens" in report.tokenizer) == (kind != "llama2c")
    json.dumps(report.as_dict())
    assert any("parameters" in line for line in report.lines())


def test_an_unknown_architecture_is_still_described(files: dict[str, Path], tmp_path: Path) -> None:
    for path in files["hf"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"architectures": ["MambaForCausalLM"]}))
    report = inspect_file(tmp_path)
    assert "MambaForCausalLM is not supported" in report.architecture
    assert report.parameters == PARAMETERS


def test_where_a_model_comes_from_is_told(files: dict[str, Path], tmp_path: Path) -> None:
    assert json.loads(inspect_file(files["gguf"]).provenance["tinylm.provenance"])["source"] == "here"
    assert inspect_file(files["int4"]).provenance["source"] == "here"
    assert inspect_file(files["onnx"]).provenance["producer"] == "tinylm"
    for path in files["hf"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "_name_or_path": "owner/name"}))
    assert inspect_file(tmp_path).provenance["_name_or_path"] == "owner/name"


def test_foreign_weights_alone_are_described(files: dict[str, Path]) -> None:
    report = inspect_file(files["hf"] / "model.safetensors")
    assert report.parameters == PARAMETERS
    assert report.architecture == "not stated in this file"


@pytest.mark.parametrize("name", ["absent.gguf", "notes.txt"])
def test_what_is_not_a_model_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=name):
        inspect_file(tmp_path / name)


def onnx_edit(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Return a function that decodes a graph, changes it, and encodes it again."""

    def apply(data: bytes) -> bytes:
        import onnx

        model = onnx.ModelProto.FromString(data)
        change(model)
        return bytes(model.SerializeToString())

    return apply


def first_constant(**changes: object) -> Callable[[bytes], bytes]:
    """Return a function that changes fields of the first weight of a graph."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        for name, value in changes.items():
            if name == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return onnx_edit(change)


def stated_config(text: str) -> Callable[[bytes], bytes]:
    return onnx_edit(lambda model: setattr(model.metadata_props[0], "value", text))


def config_with(**changes: object) -> Callable[[bytes], bytes]:
    return stated_config(json.dumps(CONFIG.model_dump(mode="json") | changes))


BAD_ONNX: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda data: data[:1],
    "text": lambda _: b"not a graph",
    "zeros": lambda data: bytes(len(data)),
    "all ones": lambda data: b"\xff" * len(data),
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "one byte long": lambda data: data + b"\x0a",
    "a safetensors file": lambda _: (2).to_bytes(8, "little") + b"{}",
    "a GGUF file": lambda _: b"GGUF" + bytes(60),
    "length lies": lambda data: data[:4] + b"\xff\xff\xff\xff\x0f" + data[4:],
    "length of 2^63": lambda data: data + b"\x3a" + b"\xff" * 9 + b"\x01",
    "endless number": lambda data: data + b"\x08" + b"\xff" * 20,
    "group opened": lambda data: data + b"\x0b",
    "wire type 7": lambda data: data + b"\x0f",
    "no graph": onnx_edit(lambda model: model.ClearField("graph")),
    "no nodes": onnx_edit(lambda model: model.graph.ClearField("node")),
    "no outputs": onnx_edit(lambda model: model.graph.ClearField("output")),
    "no version": onnx_edit(lambda model: model.ClearField("ir_version")),
    "negative shape": first_constant(dims=[-5, 32]),
    "shape lies": first_constant(dims=[1 << 40]),
    "shape wraps": first_constant(dims=[1 << 32, 1 << 32]),
    "shape of 2^62": first_constant(dims=[1 << 62]),
    "bytes missing": first_constant(raw_data=b"\0" * 7),
    "type unknown": first_constant(data_type=999),
    "type negative": first_constant(data_type=-1),
    "config cut off": stated_config("{"),
    "config empty": stated_config(""),
    "config a list": stated_config("[1]"),
    "config deep": stated_config("[" * 100_000),
    "config with width 0": config_with(d_model=0),
    "config with 3 kv heads": config_with(n_kv_heads=3),
    "config with more": config_with(surprise=1),
}


@pytest.mark.parametrize("case", BAD_ONNX)
def test_a_damaged_onnx_file_is_a_named_error(case: str, files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BAD_ONNX[case](files["onnx"].read_bytes()))
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"model\.onnx"):
        inspect_file(path)
    assert tracemalloc.get_traced_memory()[1] <= path.stat().st_size + SLACK_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["onnx", "gguf", "llama2c", "int4"])
def test_a_cut_off_file_is_a_named_error(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    whole = files[kind].read_bytes()
    path = tmp_path / files[kind].name
    for size in np.linspace(0, len(whole) - 1, 60, dtype=int).tolist():
        path.write_bytes(whole[:size])
        with pytest.raises(UserError):
            inspect_file(path)
