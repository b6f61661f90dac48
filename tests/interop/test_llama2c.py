"""llama2.c files: the published model prints its published text; damaged files are named errors."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinylm.backends import BACKENDS, open_backend
from tinylm.config import GenerateOptions
from tinylm.errors import DataError, FormatError, UserError
from tinylm.interop.checkpoint import Checkpoint, interleave
from tinylm.interop.imports import import_model, read_checkpoint
from tinylm.interop.llama2c import V0_ORDER, read_llama2c
from tinylm.interop.llama2c_export import tokenizer_bin, write_llama2c
from tinylm.tokenizer import load_tokenizer

GREEDY = GenerateOptions(temperature=0, max_new_tokens=256)
SLACK_BYTES = 64_000_000


@pytest.fixture(scope="session")
def published(shared_data: Path) -> Path:
    return shared_data / "stories260K"


@pytest.fixture(scope="session")
def model_file(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stories260K") / "model.safetensors"
    import_model(published / "stories260K.bin", path, precision="f32", tokenizer=published / "tok512.bin")
    return path


@pytest.mark.parametrize("name", BACKENDS)
def test_the_published_model_prints_its_published_text(name: str, published: Path, model_file: Path) -> None:
    if name == "hf":
        pytest.importorskip("transformers", reason="the hf backend is transformers")
    backend = open_backend(name, model_file)
    expected = (published / "expected_greedy.txt").read_text().removesuffix("\n")
    assert backend.generate("", GREEDY).text == expected
    backend.close()


def test_both_tokenizer_files_cut_stories_alike(published: Path) -> None:
    with_bin, with_model = (
        load_tokenizer(read_llama2c(published / "stories260K.bin", published / name).tokenizer)
        for name in ("tok512.bin", "tok512.model")
    )
    assert with_bin.pieces() == with_model.pieces()
    text = 'Once upon a time, Lily\'s mom said: "Look!"\nÉt 12 日本'
    assert with_bin.encode(text) == with_model.encode(text)


def tiny(tmp_path: Path, version: int, *, tied: bool = True) -> tuple[Path, Checkpoint]:
    """Write a small model of a given file version; return its path and content."""
    from interop_spm import spm_model

    from tinylm.config import ModelConfig
    from tinylm.modelfile import random_weights

    config = ModelConfig(
        vocab_size=300,
        context_length=16,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        d_model=32,
        d_ff=64,
        tied_embeddings=tied,
    )
    checkpoint = Checkpoint(config, random_weights(config, 3), spm_model(300), "sentencepiece", 1, 2)
    path = tmp_path / "model.bin"
    write_llama2c(checkpoint, path, "f32")
    if version:
        path.write_bytes(_later_version(checkpoint, version))
    return path, checkpoint


def _later_version(checkpoint: Checkpoint, version: int, group: int = 32) -> bytes:
    """Return the bytes of a version 1 (float) or 2 (int8) file, as llama2.c's export.py lays them out."""
    config, weights = checkpoint.config, checkpoint.weights
    fields = (32, 64, config.n_layers, config.n_heads, config.n_kv_heads, config.vocab_size, config.context_length)
    header = struct.pack("<Ii7iB", 0x616B3432, version, *fields, config.tied_embeddings)
    header += struct.pack("<i", group) if version == 2 else b""
    names = [f"layers.{i}.{name}.weight" for name in ("attn_norm", "mlp_norm") for i in range(config.n_layers)]
    body = b"".join(weights[name].tobytes() for name in [*names, "norm.weight"])
    kinds = [name for name in V0_ORDER if "norm" not in name]
    matrices = ["tok_embeddings.weight"] + [
        f"layers.{i}.{kind}.weight" for kind in kinds for i in range(config.n_layers)
    ]
    for name in matrices + ([] if config.tied_embeddings else ["head.weight"]):
        rows = weights[name]
        if ".wq." in name or ".wk." in name:
            rows = interleave(rows, rows.shape[0] // config.head_width, config.head_width)
        if version == 1:
            body += rows.tobytes()
            continue
        groups = rows.reshape(-1, group)
        scales = np.abs(groups).max(axis=1) / np.float32(127)
        body += np.rint(groups / scales[:, None]).astype(np.int8).tobytes() + scales.astype("<f4").tobytes()
    return header.ljust(256, b"\0") + body


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_version_reads_back(version: int, tied: bool, tmp_path: Path) -> None:
    path, checkpoint = tiny(tmp_path, version, tied=tied)
    back = read_checkpoint(path)
    assert back.config == checkpoint.config
    for name, rows in checkpoint.weights.items():
        limit = 0.6 * np.abs(rows).max() / 127 if version == 2 and rows.ndim == 2 else 0.0
        assert np.abs(back.weights[name] - rows).max() <= limit, name


def patched(at: int, *values: int) -> Callable[[bytes], bytes]:
    """Return a function that overwrites int32 fields from byte `at`."""
    field = struct.pack(f"<{len(values)}i", *values)
    return lambda data: data[:at] + field + data[at + len(field) :]


BIG = (1 << 31) - 1
BAD_V0: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "three bytes": lambda data: data[:3],
    "header only": lambda data: data[:28],
    "one byte short": lambda data: data[:-1],
    "one byte long": lambda data: data + b"\0",
    "twice": lambda data: data + data,
    "text": lambda _: b"Once upon a time there was a file that was not a model at all.\n" * 9,
    "zeros": lambda data: bytes(len(data)),
    "all ones": lambda data: b"\xff" * len(data),
    "width 0": patched(0, 0),
    "width -32": patched(0, -32),
    "width huge": patched(0, BIG),
    "width wrong": patched(0, 36),
    "feed-forward 0": patched(4, 0),
    "feed-forward huge": patched(4, BIG),
    "layers 0": patched(8, 0),
    "layers huge": patched(8, BIG),
    "layers one more": patched(8, 3),
    "heads 0": patched(12, 0),
    "heads 3": patched(12, 3),
    "heads 32": patched(12, 32),
    "kv heads 0": patched(16, 0),
    "kv heads 3": patched(16, 3),
    "kv heads huge": patched(16, BIG),
    "vocabulary 0": patched(20, 0),
    "vocabulary most negative": patched(20, -(1 << 31)),
    "vocabulary untied": patched(20, -300),
    "vocabulary huge": patched(20, 1 << 20),
    "context 0": patched(24, 0),
    "context huge": patched(24, 1 << 20),
    "everything huge": patched(0, *[1 << 10] * 7),
    "not a number": lambda data: data[:28] + struct.pack("<f", float("nan")) + data[32:],
    "infinity": lambda data: data[:40] + struct.pack("<f", float("inf")) + data[44:],
}
BAD_V2: dict[str, Callable[[bytes], bytes]] = {
    "version 3": patched(4, 3),
    "version -1": patched(4, -1),
    "shared 2": lambda data: data[:36] + b"\2" + data[37:],
    "not shared": lambda data: data[:36] + b"\0" + data[37:],
    "group 0": patched(37, 0),
    "group -32": patched(37, -32),
    "group 7": patched(37, 7),
    "group 16": patched(37, 16),
    "group huge": patched(37, BIG),
    "padding cut": lambda data: data[:200],
    "width huge": patched(8, 1 << 15),
    "scale not finite": lambda data: data[:-4] + struct.pack("<f", float("nan")),
}


@pytest.mark.parametrize(("version", "case"), [(0, case) for case in BAD_V0] + [(2, case) for case in BAD_V2])
def test_a_damaged_model_is_a_named_error(version: int, case: str, tmp_path: Path) -> None:
    path, _ = tiny(tmp_path, version)
    path.write_bytes((BAD_V0 if version == 0 else BAD_V2)[case](path.read_bytes()))
    tracemalloc.start()
    with pytest.raises(UserError):
        read_llama2c(path)
    assert tracemalloc.get_traced_memory()[1] <= path.stat().st_size + SLACK_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_truncation_is_a_named_error(version: int, tmp_path: Path) -> None:
    path, _ = tiny(tmp_path, version)
    whole = path.read_bytes()
    for size in [*range(300), *range(300, len(whole), 211), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_llama2c(path)


def edited(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + value + data[at + len(value) :]


BAD_TOKENIZER: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut in a score": lambda data: data[:6],
    "cut in a text": lambda data: data[:-1],
    "one token more": lambda data: data + struct.pack("<fi", 0.0, 1) + b"x",
    "trailing byte": lambda data: data + b"\0",
    "length negative": edited(8, struct.pack("<i", -1)),
    "length huge": edited(8, struct.pack("<i", BIG)),
    "length too long": edited(8, struct.pack("<i", 6)),
    "not utf-8": edited(12, b"\xff\xfe\xfd"),
}


@pytest.mark.parametrize("case", BAD_TOKENIZER)
def test_a_damaged_tokenizer_is_a_named_error(case: str, tmp_path: Path) -> None:
    path, _ = tiny(tmp_path, 0)
    tokenizer = tmp_path / "tokenizer.bin"
    tokenizer.write_bytes(BAD_TOKENIZER[case](tokenizer.read_bytes()))
    with pytest.raises(UserError):
        read_llama2c(path)


def test_a_missing_or_foreign_tokenizer_is_named(tmp_path: Path) -> None:
    from interop_spm import spm_model

    path, checkpoint = tiny(tmp_path, 0)
    (tmp_path / "tokenizer.bin").unlink()
    with pytest.raises(DataError, match="--tokenizer"):
        read_llama2c(path)
    (tmp_path / "other.model").write_bytes(spm_model(320))
    with pytest.raises(FormatError, match="320 tokens; the model has 300"):
        read_llama2c(path, tmp_path / "other.model")
    assert tokenizer_bin(load_tokenizer(checkpoint.tokenizer).pieces())[:4] == struct.pack("<i", 6)
