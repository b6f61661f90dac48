"""Where an export or import may be written: what is there stays, unless an earlier export put it there."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_models import make_checkpoint, tiny

from tinylm.errors import DataError, StageError
from tinylm.interop import exports
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.exports import export_checkpoint, export_model
from tinylm.interop.imports import import_model, read_checkpoint


def test_a_failed_export_leaves_nothing(
    sentencepiece_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        del args
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tinylm.interop.llama2c_export.tokenizer_bin", fail)
    with pytest.raises(StageError, match=r"model\.bin: cannot be written \(No space"):
        export_checkpoint(
            make_checkpoint(tiny("llama-8m"), sentencepiece_model), "llama2c", tmp_path / "out" / "model.bin"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["gguf", "llama2c", "onnx"])
def test_a_write_that_is_refused_is_told_in_our_words(
    target: str, sentencepiece_model: bytes, tmp_path: Path, largest_file: Any
) -> None:
    pytest.importorskip(target if target != "llama2c" else "numpy", reason="the file is built with this package")
    checkpoint = make_checkpoint(tiny("llama-8m"), sentencepiece_model)
    told = r"model: cannot be written \((File too large\): raise the limit|only a part of it was taken\): free space)"
    with largest_file(200_000), pytest.raises(StageError, match=told):
        export_checkpoint(checkpoint, target, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_exported_files_follow_the_umask(sentencepiece_model: bytes, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        export_checkpoint(make_checkpoint(tiny("llama-8m"), sentencepiece_model), "hf", tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("target", "name", "out"),
    [
        ("gguf", "m.safetensors", "m.safetensors"),
        ("llama2c", "tokenizer.bin", "m.bin"),
        ("onnx", "tokenizer.json", "m.onnx"),
    ],
)
def test_a_model_is_not_exported_over_itself(
    target: str, name: str, out: str, sentencepiece_model: bytes, tmp_path: Path
) -> None:
    if target == "onnx":
        pytest.importorskip("onnx", reason="the graph is built with onnx")
    folder, link = tmp_path / "folder", tmp_path / "link"
    make_checkpoint(tiny("llama-8m"), sentencepiece_model).save(folder / name, "int8")
    link.symlink_to(folder)
    before = snapshot(folder)
    with pytest.raises(DataError, match=r"is the input .* itself"):
        export_model(folder / name, target, link / out)
    assert snapshot(folder) == before


@pytest.mark.parametrize("target", ["gguf", "hf"])
def test_an_export_replaces_no_pipe_or_device(target: str, sentencepiece_model: bytes, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe: is a"):
        export_checkpoint(make_checkpoint(tiny("llama-8m"), sentencepiece_model), target, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 1


def test_only_an_earlier_export_is_exported_over(sentencepiece_model: bytes, tmp_path: Path) -> None:
    first, second = (make_checkpoint(tiny("llama-8m"), sentencepiece_model, seed) for seed in (1, 2))
    export_checkpoint(first, "hf", tmp_path)
    export_checkpoint(second, "hf", tmp_path)
    back = read_checkpoint(tmp_path)
    assert np.array_equal(back.weights["norm.weight"], second.weights["norm.weight"])
    (tmp_path / "training_args.bin").write_text("a stranger's")
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=r"holds files that no hf export wrote.*name another folder"):
        export_checkpoint(first, "hf", tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_a_strangers_folder_is_not_exported_over(name: str, sentencepiece_model: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match="holds files that no hf export wrote"):
        export_checkpoint(make_checkpoint(tiny("llama-8m"), sentencepiece_model), "hf", tmp_path)
    assert snapshot(tmp_path) == {tmp_path / name: b"{}"}


@pytest.mark.parametrize(("target", "beside"), [("llama2c", "tokenizer.bin"), ("onnx", "tokenizer.json")])
def test_another_tokenizer_beside_the_output_stays(
    target: str, beside: str, sentencepiece_model: bytes, tmp_path: Path
) -> None:
    if target == "onnx":
        pytest.importorskip("onnx", reason="the graph is built with onnx")
    first, second = (make_checkpoint(tiny("llama-8m"), sentencepiece_model, seed) for seed in (1, 2))
    export_checkpoint(first, target, tmp_path / "first")
    export_checkpoint(second, target, tmp_path / "second")
    export_checkpoint(second, target, tmp_path / "first")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    (tmp_path / beside).write_text("a stranger's")
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=f"{beside}: is not this model's tokenizer"):
        export_checkpoint(first, target, tmp_path / "first")
    with pytest.raises(DataError, match=f"{beside}: is what {target} calls the tokenizer's file"):
        export_checkpoint(first, target, tmp_path / beside)
    assert snapshot(tmp_path) == before


def test_an_import_does_not_replace_what_it_reads(sentencepiece_model: bytes, tmp_path: Path) -> None:
    folder, llama2c = tmp_path / "hf", tmp_path / "model.bin"
    checkpoint = make_checkpoint(tiny("llama-8m"), sentencepiece_model)
    export_checkpoint(checkpoint, "hf", folder)
    export_checkpoint(checkpoint, "llama2c", llama2c)
    tokenizer = tmp_path / "tokenizer.bin"
    before = snapshot(tmp_path)
    for source, out in (
        (folder, folder / "model.safetensors"),
        (folder, folder / "config.json"),
        (llama2c, llama2c),
        (llama2c, tokenizer),
    ):
        with pytest.raises(DataError, match=r"is the input .* itself"):
            import_model(source, out, tokenizer=None if source == folder else tokenizer)
    assert snapshot(tmp_path) == before
    for _ in range(2):  # an earlier import in that folder is not read
        import_model(folder, folder / "tiny.safetensors")


STOPS = {
    "full disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "Ctrl-C": KeyboardInterrupt(),
    "lack of memory": MemoryError(),
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("target", ["hf", "gguf", "llama2c", "onnx"])
def test_a_stopped_export_leaves_no_file_and_no_new_folder(
    target: str, stop: str, sentencepiece_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop comes when all is written and nothing yet moved to its place."""

    def stopping(checkpoint: Checkpoint, place: Path, dtype: str) -> None:
        written(checkpoint, place, dtype)
        raise STOPS[stop]

    pytest.importorskip(target if target in ("gguf", "onnx") else "numpy", reason="the file is built with this package")
    written = exports.TARGETS[target].write
    monkeypatch.setitem(exports.TARGETS, target, replace(exports.TARGETS[target], write=stopping))
    (tmp_path / "mine").mkdir()
    with pytest.raises((StageError, KeyboardInterrupt, MemoryError)):
        export_checkpoint(
            make_checkpoint(tiny("llama-8m"), sentencepiece_model), target, tmp_path / "mine" / "new" / "er" / "out"
        )
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_an_export_that_the_system_refuses_leaves_nothing(
    sentencepiece_model: bytes, tmp_path: Path, largest_file: Any
) -> None:
    """Of a folder the first file may fit and the next not."""
    checkpoint = make_checkpoint(tiny("llama-8m"), sentencepiece_model)
    for limit in (1_000, 200_000):
        with largest_file(limit), pytest.raises(StageError, match=r"hf: cannot be written \(File too large\)"):
            export_checkpoint(checkpoint, "hf", tmp_path / "new" / "hf")
        with largest_file(limit), pytest.raises(StageError, match=r"x: cannot be written \(File too large\)"):
            checkpoint.save(tmp_path / "new" / "x", "f32")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/new/hf", "/proc/new/hf", "n" * 300])
def test_an_export_to_where_no_folder_can_be_is_bad_input(
    place: str, sentencepiece_model: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    checkpoint = make_checkpoint(tiny("llama-8m"), sentencepiece_model)
    for target in ("hf", "llama2c"):
        with pytest.raises(DataError, match=r"cannot be written .* name an output in a folder"):
            export_checkpoint(checkpoint, target, tmp_path / place)
    with pytest.raises(DataError, match=r"cannot be written .* name an output in a folder"):
        checkpoint.save(tmp_path / place, "int8")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_new_folder_appears_whole(
    sentencepiece_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that watches for the folder, or a kill between two moves, never finds half a model."""
    seen: list[set[str]] = []
    move = Path.replace

    def watched(source: Path, place: Path) -> Path:
        moved = move(source, place)
        seen.append({path.name for path in (tmp_path / "hf").iterdir()})
        return moved

    monkeypatch.setattr(Path, "replace", watched)
    made = export_checkpoint(make_checkpoint(tiny("llama-8m"), sentencepiece_model), "hf", tmp_path / "hf")
    assert seen[0] == set(made.files)
