"""Every setting of every format replaced by a value of another kind: a model or a named error, never a crash."""

from __future__ import annotations

import contextlib
import copy
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the folders are made with transformers")
pytest.importorskip("gguf", reason="tensor types come from the gguf package")

from interop_models import MODELS, make_model, save_model
from test_gguf import BOOL, F32, LIST, TEXT, U32, listed, llama, number, text
from test_lora import TARGETS, write_adapter

from tinylm.errors import UserError
from tinylm.interop.gguf_import import read_gguf
from tinylm.interop.imports import read_checkpoint

ODD: list[Any] = [None, [], {}, "x", -1, 0, 1 << 62, 10**400, True, [[]], [{}], [["x"], 1 << 40], float("nan"), 0.5]


def replaced(document: Any) -> Iterator[Any]:
    """Yield copies of a JSON document, each with one value (at any depth) replaced by an odd one."""
    for path in list(paths(document)):
        for value in ODD:
            changed = copy.deepcopy(document)
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            yield changed


def paths(value: Any, depth: int = 4) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries)[:40]:  # a vocabulary's first entries stand for all
        yield (key,)
        if depth > 1:
            yield from ((key, *rest) for rest in paths(inner, depth - 1))


def reads_or_says_why(folder: Path, lora: Path | None = None) -> bool:
    try:
        read_checkpoint(folder, lora=lora)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("name", ["llama", "qwen2-window", "mistral-window", "gpt2", "gpt-neo", "gpt-neox"])
def test_config_json(name: str, tmp_path: Path) -> None:
    save_model(make_model(name, 1), tmp_path)
    path = tmp_path / "config.json"
    good = json.loads(path.read_text())
    answers = set()
    for document in replaced(good):
        path.write_text(json.dumps(document))
        answers.add(reads_or_says_why(tmp_path))
    assert answers == {True, False}
    assert name in MODELS


def test_tokenizer_json(tmp_path: Path) -> None:
    save_model(make_model("gpt2", 1), tmp_path)
    path = tmp_path / "tokenizer.json"
    good = json.loads(path.read_text())
    for document in replaced(good):
        path.write_text(json.dumps(document))
        reads_or_says_why(tmp_path)
    path.write_text(json.dumps(good))
    assert reads_or_says_why(tmp_path)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "generation_config.json"])
def test_side_files(file: str, tmp_path: Path) -> None:
    save_model(make_model("gpt2", 1), tmp_path)
    for document in replaced({"add_bos_token": False, "bos_token_id": [1], "eos_token_id": 2}):
        (tmp_path / file).write_text(json.dumps(document))
        assert reads_or_says_why(tmp_path)


def test_vocab_json_and_the_index_of_shards(tmp_path: Path) -> None:
    save_model(make_model("gpt2", 1), tmp_path)
    vocab = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\n")
    for document in [vocab, *replaced(vocab)]:
        (tmp_path / "vocab.json").write_text(json.dumps(document))
        reads_or_says_why(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    assert reads_or_says_why(tmp_path)
    for document in replaced({"metadata": {}, "weight_map": {"a": "b.safetensors"}}):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(document))
        assert not reads_or_says_why(tmp_path)


def test_adapter_config(tmp_path: Path) -> None:
    model = make_model("llama", 1)
    save_model(model, tmp_path / "model")
    write_adapter(tmp_path / "lora", model, TARGETS["llama"], alpha_pattern={"q_proj": 2}, rank_pattern={"q_proj": 3})
    path = tmp_path / "lora" / "adapter_config.json"
    good = json.loads(path.read_text())
    for document in [good, *replaced(good)]:
        path.write_text(json.dumps(document))
        reads_or_says_why(tmp_path / "model", tmp_path / "lora")
    path.write_text(json.dumps(good))
    assert reads_or_says_why(tmp_path / "model", tmp_path / "lora")


def shapes_of(header: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield headers of a safetensors file, each with one tensor that says another shape or type of equal size."""
    for name in [key for key in header if key != "__metadata__"]:
        rows = header[name]["shape"]
        count = int(np.prod(rows))
        for shape in ([count], [1, *rows], [count, 1], rows[::-1], [0], []):
            yield {**header, name: {**header[name], "shape": shape}}
        for kind, size in (("I32", 4), ("F64", 8), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F16", 2), ("C64", 8)):
            yield {**header, name: {**header[name], "dtype": kind, "shape": [4 * count // size]}}


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt-neox"])
def test_every_shape_and_type_in_a_safetensors_header(name: str, tmp_path: Path) -> None:
    save_model(make_model(name, 1), tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for header in shapes_of(json.loads(whole[8:end])):
        head = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head + whole[end:])
        reads_or_says_why(tmp_path)
    path.write_bytes(whole)
    assert reads_or_says_why(tmp_path)


def test_every_field_of_a_gguf_file(tmp_path: Path) -> None:
    odd = [
        (U32, number(U32, 0)),
        (U32, number(U32, (1 << 32) - 1)),
        (F32, number(F32, float("nan"))),
        (BOOL, number(BOOL, True)),
        (TEXT, text("x")),
        (TEXT, text("")),
        (LIST, listed(U32, [])),
        (LIST, listed(U32, [number(U32, 7)] * 2)),
        (LIST, listed(F32, [number(F32, 1.0)] * 300)),
        (LIST, listed(TEXT, [text("a")])),
    ]
    path = tmp_path / "model.gguf"
    optional = ["add_bos_token", "add_space_prefix", "pre", "merges"]
    more = ["llama.rope.scaling.type", "llama.rope.freq_base", "llama.attention.sliding_window", "general.alignment"]
    good = llama()
    for base in (good, good.with_field("tokenizer.ggml.model", TEXT, text("gpt2"))):
        for key in [*base.fields, *(f"tokenizer.ggml.{name}" for name in optional), *more]:
            for kind, value in odd:
                path.write_bytes(base.with_field(key, kind, value).data())
                with contextlib.suppress(UserError):
                    read_gguf(path)
    path.write_bytes(good.data())
    assert read_gguf(path).config.n_layers == 1
