"""Files made to swell: each is refused within its own size plus 64 MB of resident memory, measured by the kernel."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="one of the formats is GGUF")

from interop_spm import spm_model
from test_gguf import LIST, TEXT, U32, text

from tinylm.config import ModelConfig
from tinylm.errors import UserError
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.exports import export_checkpoint
from tinylm.interop.imports import read_checkpoint
from tinylm.interop.inspect import inspect_file
from tinylm.modelfile import random_weights

SLACK_KB = 64_000
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read and reset through /proc")


def gguf(tensors: int, fields: int, body: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields) + body


def header_of(tensors: int) -> bytes:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    raw = json.dumps({f"t{i}": empty for i in range(tensors)}).encode()
    return struct.pack("<Q", len(raw)) + raw


def delimited(tag: int, body: bytes) -> bytes:
    """Return a protobuf field of this tag, its length in five bytes."""
    size = bytes([len(body) >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]) + bytes([len(body) >> 28])
    return bytes([tag]) + size + body


BRACKETS = b'{"a":[' + b"[]," * 8_000_000
TINY_TEXT = struct.pack("<Q", 1) + b"a"
# name → (file or folder's file, content); what is read is the first part of the name
SWELLING: dict[str, tuple[str, Callable[[], bytes]]] = {
    "GGUF of tiny texts": (
        "m.gguf",
        lambda: gguf(0, 1, text("x") + struct.pack("<IIQ", LIST, TEXT, 3_000_000) + TINY_TEXT * 3_000_000),
    ),
    "GGUF of bytes": (
        "m.gguf",
        lambda: gguf(0, 1, text("x") + struct.pack("<IIQ", LIST, 0, 30_000_000) + bytes(30_000_000)),
    ),
    "GGUF of one text": ("m.gguf", lambda: gguf(0, 1, text("x") + struct.pack("<I", TEXT) + text("a" * 80_000_000))),
    "GGUF of fields": (
        "m.gguf",
        lambda: gguf(0, 700_000, b"".join(text(f"{i:07}") + struct.pack("<II", U32, 1 << 30) for i in range(700_000))),
    ),
    "GGUF of tensors": (
        "m.gguf",
        lambda: gguf(
            300_000, 0, b"".join(text(f"{i:07}") + struct.pack("<IQIQ", 1, 1, 0, 32 * i) for i in range(300_000))
        ),
    ),
    "config of brackets": ("hf/config.json", lambda: BRACKETS),
    "tokenizer of brackets": ("hf/tokenizer.json", lambda: BRACKETS),
    "index of brackets": ("hf/model.safetensors.index.json", lambda: BRACKETS),
    "header of many tensors": ("hf/model.safetensors", lambda: header_of(28_000)),
    "header of too many tensors": ("hf/model.safetensors", lambda: header_of(400_000)),
    "ONNX of empty nodes": ("m.onnx", lambda: delimited(0x3A, b"\x0a\x00" * 2_000_000)),
    "ONNX of empty constants": ("m.onnx", lambda: delimited(0x3A, b"\x2a\x00" * 2_000_000)),
    "ONNX of one weight": ("m.onnx", lambda: delimited(0x3A, delimited(0x2A, delimited(0x4A, bytes(90_000_000))))),
    "llama2.c with a long tail": ("m.bin", lambda: b"Once upon a time " * 5_000_000),
}


def peak_kb() -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a good folder and read it once, so that every library is loaded."""
    place = tmp_path_factory.mktemp("swelling") / "hf"
    config = ModelConfig(vocab_size=300, context_length=16, n_layers=1, n_heads=2, n_kv_heads=1, d_model=32, d_ff=64)
    checkpoint = Checkpoint(config, random_weights(config, 1), spm_model(300), "sentencepiece", 1, 2)
    export_checkpoint(checkpoint, "hf", place)
    (place / "tokenizer.model").unlink()
    read_checkpoint(place)
    return place


@pytest.mark.parametrize("case", SWELLING)
def test_a_file_made_to_swell_is_refused_in_little_memory(case: str, folder: Path, tmp_path: Path) -> None:
    name, make = SWELLING[case]
    for path in folder.iterdir():
        (tmp_path / "hf").mkdir(exist_ok=True)
        (tmp_path / "hf" / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / name
    damaged.write_bytes(make())
    CLEAR.write_text("5")  # the peak begins again at what is resident now
    before = peak_kb()
    with pytest.raises(UserError):
        (inspect_file if name.endswith(".onnx") else read_checkpoint)(tmp_path / name.split("/")[0])
    assert peak_kb() - before <= damaged.stat().st_size // 1000 + SLACK_KB
