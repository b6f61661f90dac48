"""`inspect_file` on every format: the facts are right, and damaged files are named errors."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

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


def test_foreign_weights_alone_are_described(files: dict[str, Path]) -> None:
    report = inspect_file(files["hf"] / "model.safetensors")
    assert report.parameters == PARAMETERS
    assert report.architecture == "not stated in this file"


@pytest.mark.parametrize("name", ["absent.gguf", "notes.txt"])
def test_what_is_not_a_model_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=name):
        inspect_file(tmp_path / name)


def onnx_edit(change: Callable[[object], None]) -> Callable[[bytes], bytes]:
    """Return a function that decodes a graph, changes it, and encodes it again."""

    def apply(data: bytes) -> bytes:
        import onnx

        model = onnx.ModelProto.FromString(data)
        change(model)
        return bytes(model.SerializeToString())

    return apply


BAD_ONNX: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"not a graph",
    "zeros": lambda data: bytes(len(data)),
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
    "half": lambda data: data[: len(data) // 2],
    "length lies": lambda data: data[:4] + b"\xff\xff\xff\xff\x0f" + data[4:],
    "no graph": onnx_edit(lambda model: model.ClearField("graph")),  # type: ignore[attr-defined]
    "no nodes": onnx_edit(lambda model: model.graph.ClearField("node")),  # type: ignore[attr-defined]
    "no outputs": onnx_edit(lambda model: model.graph.ClearField("output")),  # type: ignore[attr-defined]
    "no version": onnx_edit(lambda model: model.ClearField("ir_version")),  # type: ignore[attr-defined]
    "negative shape": onnx_edit(lambda m: m.graph.initializer[0].dims.__setitem__(0, -5)),  # type: ignore[attr-defined]
    "shape lies": onnx_edit(lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 40)),  # type: ignore[attr-defined]
    "config damaged": onnx_edit(lambda m: setattr(m.metadata_props[0], "value", "{")),  # type: ignore[attr-defined]
    "config of nonsense": onnx_edit(lambda m: setattr(m.metadata_props[0], "value", "[1]")),  # type: ignore[attr-defined]
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
