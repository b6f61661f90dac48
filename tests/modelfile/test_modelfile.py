"""The model file: what is written comes back, and whatever is damaged is refused by both readers."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tinylm.cli import app
from tinylm.config import ModelConfig
from tinylm.engine import _native, load_engine
from tinylm.errors import DataError, FormatError, StageError
from tinylm.modelfile import random_weights, read_model, weight_shapes
from tinylm.outputs import cannot_write
from tinylm.presets import PRESETS
from tinylm.quantize import quantize_int4, quantize_int8, write_model

CONFIG = ModelConfig(
    vocab_size=40, context_length=16, n_layers=1, n_heads=2, n_kv_heads=1, d_model=16, d_ff=24, bias=True,
    norm="layernorm", position="learned", qk_norm=True,
)  # fmt: skip


def _write(path: Path, precision: str = "int8", config: ModelConfig = CONFIG, **more: Any) -> bytes:
    weights = random_weights(config, 1)
    write_model(path, config, weights, b"tokenizer bytes", "bytes", 1, None, precision, {"from": "test"}, **more)  # type: ignore[arg-type]
    return path.read_bytes()


def _both_refuse(path: Path, content: bytes, match: str | None = None) -> None:
    path.write_bytes(content)
    with pytest.raises(FormatError, match=match):
        read_model(path)
    with pytest.raises(FormatError, match=match):
        load_engine(path)


def _rewrite(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with its header changed and nothing else; digests are left as they were."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8", "int4"])
def test_round_trip(precision: str, tmp_path: Path) -> None:
    weights = random_weights(CONFIG, 1)
    _write(tmp_path / "m", precision, add_bos=False)
    model = read_model(tmp_path / "m")
    assert (model.config, model.precision, model.tokenizer) == (CONFIG, precision, b"tokenizer bytes")
    assert (model.header.bos_id, model.header.eos_id, model.header.add_bos) == (1, None, False)
    assert model.header.provenance == {"from": "test"}
    restored = model.dequantized()
    assert {name: value.shape for name, value in restored.items()} == weight_shapes(CONFIG)
    limit = {"f32": 0.0, "bf16": 0.004, "int8": 0.01, "int4": 0.15}[precision]
    for name, value in weights.items():
        assert np.abs(restored[name] - value).max() <= limit * np.abs(value).max(), name
    with load_engine(tmp_path / "m") as engine:
        assert engine.info.model_digest == model.digest
        assert engine.info.config == CONFIG
        assert engine.encode("ab") == [97, 98]  # add_bos False
        assert engine.encode("") == [1]


def test_same_weights_same_bytes(tmp_path: Path) -> None:
    assert _write(tmp_path / "a") == _write(tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(("field", "bos_id", "eos_id"), [("bos_id", 40, None), ("bos_id", -1, 0), ("eos_id", 39, 40)])
def test_what_reading_refuses_is_not_written(field: str, bos_id: int, eos_id: int | None, tmp_path: Path) -> None:
    weights = random_weights(CONFIG, 1)
    with pytest.raises(FormatError, match=f"m: {field} is '(40|-1)', expected a token id below 40 or nothing"):
        write_model(tmp_path / "m", CONFIG, weights, b"", "bytes", bos_id, eos_id, "int8", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["llama2c", "gguf"])
def test_another_tool_s_file_is_told_how_to_come_in(other: str, tmp_path: Path) -> None:
    start = struct.pack("<7i", 288, 768, 6, 6, 6, 32000, 256) if other == "llama2c" else b"GGUF" + bytes([3, *[0] * 20])
    _both_refuse(tmp_path / "model", start + bytes(5000), "another tool: try `tinylm import`")


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_the_mode_follows_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        _write(tmp_path / "m")
        _write(tmp_path / "m")
    finally:
        os.umask(before)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    assert _write(tmp_path / "new" / "deep" / "m") == _write(tmp_path / "m")


def test_a_write_that_is_refused_is_one_named_error_and_leaves_what_was_there(
    tmp_path: Path, largest_file: Any
) -> None:
    path = tmp_path / "m"
    content = _write(path)
    told = rf"{path}: cannot be written \(File too large\): raise the limit .*ulimit -f"
    with largest_file(1000), pytest.raises(StageError, match=told):
        _write(path)
    assert "free space" in str(cannot_write(path, OSError(errno.ENOSPC, "No space left on device")))
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_takes_no_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for path, reason in (
        (tmp_path / "file" / "m", "cannot be written"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(DataError, match=rf"{path}.*{reason}.*name an output in a folder"):
            _write(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["device or pipe", "link", "folder"])
def test_only_a_regular_file_is_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    makers = {"device or pipe": os.mkfifo, "link": lambda place: place.symlink_to("/dev/null"), "folder": Path.mkdir}
    makers[kind](path)
    before = path.lstat()
    with pytest.raises(DataError, match=rf"{path}: is a {kind}; expected"):
        _write(path)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_init_says_in_one_line_why_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    os.mkfifo(tmp_path / "pipe")
    for out in (tmp_path / "file" / "m.safetensors", tmp_path / "pipe"):
        result = CliRunner().invoke(app, ["init", "--preset", "llama-8m", "--out", str(out)], prog_name="tinylm")
        assert result.exit_code == 2
        assert str(out) in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_shapes(name: str) -> None:
    shapes = weight_shapes(PRESETS[name])
    assert shapes["tok_embeddings.weight"] == (PRESETS[name].vocab_size, PRESETS[name].d_model)
    assert ("head.weight" in shapes) != PRESETS[name].tied_embeddings


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = _write(tmp_path / "m")
    header = 8 + struct.unpack("<Q", content[:8])[0]
    lengths = [*range(0, 64), *range(64, header, 97), *range(header, len(content), 53), len(content) - 1]
    for length in lengths:
        _both_refuse(tmp_path / "m", content[:length])
    _both_refuse(tmp_path / "m", content + b"\0")


def test_every_altered_byte_is_refused(tmp_path: Path) -> None:
    content = bytearray(_write(tmp_path / "m"))
    path = tmp_path / "m"
    header = 8 + struct.unpack("<Q", content[:8])[0]
    digest = content.index(b'"sha256"') + 10  # its value: the one thing that only the Python reader verifies
    for at in [*range(0, 40), *range(40, header, 41), *range(header, len(content), 67), len(content) - 1]:
        if digest <= at < digest + 64:
            continue
        content[at] ^= 0x41
        _both_refuse(path, bytes(content))
        content[at] ^= 0x41


def _set_metadata(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["__metadata__"].__setitem__(key, value)


def _set_config(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"])
        config[key] = value
        header["__metadata__"]["config"] = json.dumps(config)

    return change


def _set_tensor(name: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].__setitem__(key, value)


HUGE = [0, -1, 1, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 10**30, 0.5, "8", None, [], True]
SIZES = ["vocab_size", "context_length", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_ff", "head_dim"]


@pytest.mark.parametrize("field", SIZES)
def test_impossible_sizes(field: str, tmp_path: Path) -> None:
    content = _write(tmp_path / "m")
    same = {
        ("n_layers", 1),
        ("n_layers", True),
        ("n_kv_heads", 1),
        ("n_kv_heads", True),
        ("head_dim", 0),
    }  # the file's own
    for value in HUGE:
        if not isinstance(value, list) and (field, value) in same:
            continue
        _both_refuse(tmp_path / "m", _rewrite(content, _set_config(field, value)))


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str | None]] = {
    "other version": (_set_metadata("format_version", "2"), "version 2, this TinyLM reads 1"),
    "no version": (lambda h: h["__metadata__"].pop("format_version"), None),
    "other format": (_set_metadata("format", "gguf"), "tinylm import"),
    "no metadata": (lambda h: h.pop("__metadata__"), "tinylm import"),
    "unknown metadata": (_set_metadata("more", "x"), None),
    "metadata no string": (_set_metadata("bos_id", 3), None),
    "unknown precision": (_set_metadata("precision", "int3"), "precision"),
    "unknown tokenizer": (_set_metadata("tokenizer_kind", "magic"), "tokenizer_kind"),
    "token id outside": (_set_metadata("eos_id", "40"), "eos_id"),
    "token id negative": (_set_metadata("eos_id", "-1"), "eos_id"),
    "token id hex": (_set_metadata("eos_id", "0x1"), "eos_id"),
    "config no JSON": (_set_metadata("config", "{"), None),
    "config deep": (_set_metadata("config", "[" * 100_000), None),
    "config unknown key": (_set_config("magic", 1), None),
    "config theta": (_set_config("rope_theta", -1.0), "rope_theta"),
    "config norm": (_set_config("norm", "batchnorm"), "norm"),
    "config heads": (_set_config("n_heads", 3), "n_heads"),
    "config layer": (_set_config("local_layers", [7]), "local_layers"),
    "missing tensor": (lambda h: h.pop("norm.weight"), None),
    "renamed tensor": (lambda h: h.__setitem__("norm.weights", h.pop("norm.weight")), None),
    "swapped shape": (_set_tensor("layers.0.mlp.w_down.weight", "shape", [24, 16]), "w_down"),
    "shape wraps": (_set_tensor("layers.0.mlp.w_down.weight", "shape", [2**33, 2**33]), None),
    "shape negative": (_set_tensor("layers.0.mlp.w_down.weight", "shape", [-16, -24]), None),
    "shape floats": (_set_tensor("layers.0.mlp.w_down.weight", "shape", [16.0, 24.0]), None),
    "other type": (_set_tensor("layers.0.mlp.w_down.weight", "dtype", "U8"), "w_down"),
    "unknown type": (_set_tensor("layers.0.mlp.w_down.weight", "dtype", "F8"), None),
    "offsets swapped": (_set_tensor("norm.weight", "data_offsets", [64, 0]), None),
    "offsets outside": (_set_tensor("norm.weight", "data_offsets", [2**40, 2**40 + 64]), None),
    "offsets overlap": (_set_tensor("norm.weight", "data_offsets", [0, 64]), None),
    "offsets huge": (_set_tensor("norm.weight", "data_offsets", [2**64 - 64, 2**64]), None),
    "offsets missing": (lambda h: h["norm.weight"].pop("data_offsets"), None),
    "digest": (_set_metadata("provenance", "{}"), "digest"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_altered_headers(name: str, tmp_path: Path) -> None:
    change, match = CHANGES[name]
    _both_refuse(tmp_path / "m", _rewrite(_write(tmp_path / "m"), change), match)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"a": 1, "a": 1}', b'{"__metadata__": 3}', b"{}", b"\xff\xfe{}", b'{"a": NaN}', b"[" * 50_000,
     b'{"norm": {}}', b'"' + b"x" * 1000, b'{"\\ud800": 1}', b"{}" + b" " * 100 + b"x"],
)  # fmt: skip
def test_headers_of_junk(text: bytes, tmp_path: Path) -> None:
    for length in (len(text), len(text) + 1, 0, 2**63, 2**64 - 1, 100_000_001):
        _both_refuse(tmp_path / "m", struct.pack("<Q", length) + text)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["norm.weight", "layers.0.attn.wq.weight", "layers.0.attn.wq.bias"])
def test_not_finite(bad: float, name: str, tmp_path: Path) -> None:
    weights = random_weights(CONFIG, 1)
    weights[name].flat[3] = bad
    with pytest.raises(FormatError, match=name):
        write_model(tmp_path / "m", CONFIG, weights, b"", "bytes", None, None, "int8", {})
    content = bytearray(_write(tmp_path / "m", "f32"))
    good = random_weights(CONFIG, 1)[name].tobytes()
    at = bytes(content).index(good)
    content[at + 12 : at + 16] = np.float32(bad).tobytes()
    _both_refuse(tmp_path / "m", bytes(content), name)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    weights = random_weights(CONFIG, 1)
    for change, match in [
        (lambda w: w.pop("norm.weight"), "norm.weight is missing"),
        (lambda w: w.__setitem__("more", w["norm.weight"]), "no use for weight more"),
        (lambda w: w.__setitem__("norm.weight", w["norm.weight"][:3]), "shape"),
    ]:
        altered = dict(weights)
        change(altered)
        with pytest.raises(FormatError, match=match):
            write_model(tmp_path / "m", CONFIG, altered, b"", "bytes", None, None, "int8", {})
    assert not list(tmp_path.iterdir())


def test_int8_rule() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0, 1, (20, 33)), np.zeros((1, 33)), np.full((1, 33), 1e-30)]).astype(np.float32)
    levels, scale = quantize_int8(rows)
    assert np.all(np.abs(levels[:20]).max(axis=1) == 127)
    assert np.abs(levels * scale[:, None] - rows).max(axis=1)[:20].max() <= (scale[:20] * 0.501).max()
    assert scale[20] == 0
    assert not levels[20].any()


def test_int4_beats_the_plain_rule() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (50, 70)).astype(np.float32)
    packed, scale = quantize_int4(rows)
    assert packed.shape == (50, 35)
    assert scale.shape == (50, 3)
    levels = np.stack((packed & 15, packed >> 4), axis=-1).reshape(50, 70).astype(np.float32) - 8
    error = np.square(levels * np.repeat(scale, 32, axis=1)[:, :70] - rows).mean()
    plain = 0.0
    for start in range(0, 70, 32):
        group = rows[:, start : start + 32]
        step = np.abs(group).max(axis=1, keepdims=True) / 7
        plain += float(np.square(np.rint(group / step) * step - group).sum())
    assert error < 0.85 * plain / rows.size


def test_native_reader_alone(tmp_path: Path) -> None:
    """The native reader's own digest catches data that only it reads."""
    content = bytearray(_write(tmp_path / "m"))
    _native.parse_model(bytes(content), isa="auto")
    content[-5] ^= 1
    with pytest.raises(_native.FormatError, match="digest"):
        _native.parse_model(bytes(content), isa="auto")
