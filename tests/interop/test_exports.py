"""Exports open in the tools they are for, with equal logits and equal tokens; what does not fit is refused first."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_models import VOCAB, make_checkpoint, tiny
from interop_models import MODELS, make_model, our_logits, save_model, their_logits, worst
from numpy.typing import NDArray

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, DataError
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.exports import TARGETS, check_export, export_checkpoint, export_model, export_targets
from tinylm.interop.imports import read_checkpoint
from tinylm.modelfile import random_weights
from tinylm.presets import PRESETS
from tinylm.tokenizer import SentencePieceTokenizer, load_tokenizer


def some_tokens(seed: int = 0, count: int = 40) -> list[int]:
    return np.random.default_rng(seed).integers(3, VOCAB, count).tolist()


OPEN = [name for name, shape in PRESETS.items() if not shape.has_lookup_tables]


@pytest.mark.parametrize("preset", OPEN)
def test_transformers_opens_every_preset_with_equal_logits(
    preset: str, sentencepiece_model: bytes, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="exported folders are opened with transformers")
    checkpoint = make_checkpoint(tiny(preset), sentencepiece_model)
    export_checkpoint(checkpoint, "hf", tmp_path)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert worst(our_logits(checkpoint, some_tokens()), their_logits(model, some_tokens())) < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_import_export_import_is_the_same_model(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="exported folders are opened with transformers")
    model = make_model(name, 4)
    first = read_checkpoint(save_model(model, tmp_path / "theirs"))
    export_checkpoint(first, "hf", tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    tokens = list(range(40))
    assert worst(their_logits(again, tokens), their_logits(model, tokens)) < 1e-4


def odd_strings(count: int) -> list[str]:
    rng = random.Random(5)
    words = [
        "the",
        "cat",
        "naïve",
        "日本",
        "🎈",
        "<s>",
        "</s>",
        "<unk>",
        "<0x41>",
        "▁",
        "▁▁",
        "\n",
        "\t",
        "12",
        "aaaa",
        "\x00",
    ]
    texts = ["", " ", "  ", "▁", "<s>"]
    for _ in range(count):
        parts = [rng.choice([*words, " " * rng.randint(1, 9), chr(rng.randint(32, 0x2FF)), "-" * rng.randint(1, 9)])]
        parts += [
            rng.choice(words) if rng.random() < 0.5 else " " * rng.randint(1, 5) for _ in range(rng.randint(0, 12))
        ]
        texts.append("".join(parts))
    return texts


def test_the_exported_tokenizer_equals_ours_on_any_string(sentencepiece_model: bytes, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="exported folders are opened with transformers")
    export_checkpoint(make_checkpoint(tiny("llama-8m"), sentencepiece_model), "hf", tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = SentencePieceTokenizer(sentencepiece_model)
    for text in odd_strings(2000):
        tokens = ours.encode(text)
        assert theirs(text)["input_ids"] == [1, *tokens], repr(text)
        assert theirs.decode(theirs(text)["input_ids"], skip_special_tokens=True) == text
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)
    assert (tmp_path / "tokenizer.model").read_bytes() == sentencepiece_model


def test_a_foreign_tokenizer_keeps_its_prefix_and_spaces(shared_data: Path) -> None:
    from tinylm.interop.tokenizer_json import sentencepiece_json

    model = (shared_data / "stories260K" / "tok512.model").read_bytes()
    ours, theirs = load_tokenizer(model), load_tokenizer(sentencepiece_json(model))
    for text in odd_strings(2000):
        assert theirs.encode(text) == ours.encode(text), repr(text)


@pytest.mark.parametrize("preset", ["llama-20m", "quickstart", "slm-51m", "gpt-2m", "gpt2"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0", "q4_0"])
def test_gguf_reads_back(preset: str, dtype: str, sentencepiece_model: bytes, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="GGUF files are read back with the gguf package")
    checkpoint = make_checkpoint(tiny(preset), sentencepiece_model)
    path = tmp_path / "model.gguf"
    export_checkpoint(checkpoint, "gguf", path, dtype=dtype)
    reader = gguf.GGUFReader(path)
    assert len(reader.get_field("tokenizer.ggml.tokens").data) == VOCAB
    assert {tensor.name for tensor in reader.tensors} >= {
        "token_embd.weight",
        "blk.1.ffn_down.weight",
        "output_norm.weight",
    }
    back = read_checkpoint(path)
    limit = {"f32": 1e-6, "f16": 1e-3, "q8_0": 1e-2, "q4_0": 0.13}[dtype]
    for name, rows in checkpoint.weights.items():
        assert np.abs(back.weights[name] - rows).max() <= limit * np.abs(rows).max(), name
    if checkpoint.config.position != "sinusoidal" and checkpoint.config.bias == back.config.bias:
        assert back.config == checkpoint.config
    ours, theirs = load_tokenizer(sentencepiece_model), load_tokenizer(back.tokenizer)
    assert all(theirs.encode(text) == ours.encode(text) for text in odd_strings(300) if "▁" not in text)
    assert (back.bos_id, back.eos_id, back.add_bos) == (1, 2, True)


def test_llama2c_reads_back(sentencepiece_model: bytes, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tiny("llama-8m"), sentencepiece_model)
    summary = export_checkpoint(checkpoint, "llama2c", tmp_path / "model.bin")
    assert summary.files == ("model.bin", "tokenizer.bin")
    back = read_checkpoint(tmp_path / "model.bin", tmp_path / "tokenizer.bin")
    assert back.config == checkpoint.config
    assert all(np.array_equal(back.weights[name], rows) for name, rows in checkpoint.weights.items())
    assert load_tokenizer(back.tokenizer).pieces() == load_tokenizer(sentencepiece_model).pieces()


def onnx_logits(path: Path, config: ModelConfig, chunks: list[list[int]]) -> NDArray[np.float32]:
    """Run ONNX Runtime chunk by chunk through the cache; logits (T, V) of all chunks."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX graphs are run with onnxruntime")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    empty = np.zeros((1, config.n_kv_heads, 0, config.head_width), np.float32)
    past: dict[str, Any] = {value.name: empty for value in session.get_inputs() if value.name != "input_ids"}
    rows = []
    for chunk in chunks:
        logits, *present = session.run(None, {"input_ids": np.array([chunk], np.int64), **past})
        past = dict(zip(past, present, strict=True))
        rows.append(logits[0])
    return np.concatenate(rows)


EXTRA = {
    "soft-capped": {"logit_softcap": 5.0},
    "local": {"local_window": 5, "local_layers": (1,)},
    "parallel": {"parallel_residual": True, "rotary_fraction": 0.5, "tied_embeddings": False},
    "relu2": {"activation": "relu2", "bias": True},
}


@pytest.mark.parametrize("name", [*OPEN, *EXTRA])
def test_onnx_runtime_gives_equal_logits(name: str, sentencepiece_model: bytes, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the graph is built with onnx")
    config = tiny(name) if name in PRESETS else tiny("llama-8m").model_copy(update=EXTRA[name])
    checkpoint = make_checkpoint(config, sentencepiece_model)
    export_checkpoint(checkpoint, "onnx", tmp_path / "model.onnx")
    tokens = some_tokens()
    found = onnx_logits(tmp_path / "model.onnx", config, [tokens[:9], tokens[9:10], tokens[10:]])
    assert worst(found, our_logits(checkpoint, tokens)) < 1e-4


def test_every_preset_says_where_it_can_go() -> None:
    able = {
        name: {target for target, reason in export_targets(config).items() if not reason}
        for name, config in PRESETS.items()
    }
    assert able["llama-20m"] == able["llama-8m"] == {"hf", "gguf", "llama2c", "onnx"}
    assert able["slm-51m"] == able["gpt2"] == able["gpt-2m"] == {"hf", "gguf", "onnx"}
    assert all({"hf", "onnx"} <= able[name] for name in OPEN)
    assert able["story-tables"] == set()


@pytest.mark.parametrize("parts", [{"value_embeddings": True}, {"ngram_rows": (97,)}, {"copy_ngrams": 1}])
def test_lookup_tables_are_refused_by_name(parts: dict[str, Any], sentencepiece_model: bytes, tmp_path: Path) -> None:
    config = tiny("llama-8m").model_copy(update=parts)
    for target in TARGETS:
        with pytest.raises(DataError, match=r"lookup tables.*Presets that export to .*llama-20m"):
            export_checkpoint(make_checkpoint(config, sentencepiece_model), target, tmp_path / target)


def test_a_model_that_does_not_fit_is_refused_before_any_work(sentencepiece_model: bytes, tmp_path: Path) -> None:
    config = tiny("llama-8m").model_copy(update={"logit_softcap": 30.0})
    for target in ("hf", "gguf", "llama2c"):
        out = tmp_path / target
        with pytest.raises(DataError, match=r"softcap.*Presets that export to .*llama-20m"):
            export_checkpoint(make_checkpoint(config, sentencepiece_model), target, out)
        assert not out.exists()


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_tokenizer_that_cannot_be_written_is_refused_before_any_work(kind: str, tmp_path: Path) -> None:
    import io

    import sentencepiece

    model, rng = io.BytesIO(), random.Random(4)
    texts = ["".join(rng.choices("abcdefgh ", k=60)) for _ in range(200)]
    settings = {"vocab_size": 300, "byte_fallback": True, "model_type": kind, "minloglevel": 2}
    rule = "identity" if kind == "unigram" else "nmt_nfkc"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, normalization_rule_name=rule, **settings
    )
    config = tiny("llama-8m").model_copy(update={"vocab_size": 300})
    reason = "BPE kind" if kind == "unigram" else "nmt_nfkc"
    for target in ("hf", "gguf", "llama2c", "onnx"):
        with pytest.raises(DataError, match=f"{target}: .*{reason}"):
            export_checkpoint(make_checkpoint(config, model.getvalue()), target, tmp_path / target)
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_named(sentencepiece_model: bytes, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tiny("llama-8m"), sentencepiece_model)
    with pytest.raises(ConfigError, match="known targets: hf, gguf, llama2c, onnx"):
        check_export("safetensors", checkpoint.config)
    with pytest.raises(ConfigError, match=r"dtype: llama2c is written as f32; found 'f16'"):
        export_checkpoint(checkpoint, "llama2c", tmp_path / "model.bin", dtype="f16")
    with pytest.raises(DataError, match="is a folder"):
        export_checkpoint(checkpoint, "gguf", tmp_path)
    checkpoint.save(tmp_path / "model.safetensors", "int8")
    with pytest.raises(DataError, match="is a file"):
        export_model(tmp_path / "model.safetensors", "hf", tmp_path / "model.safetensors")


def test_random_weights_without_a_tokenizer_are_not_exported(tmp_path: Path) -> None:
    config = tiny("llama-8m")
    bare = Checkpoint(config, random_weights(config, 1), b"", "bytes", None, None)
    with pytest.raises(DataError, match="no tokenizer"):
        export_checkpoint(bare, "hf", tmp_path / "out")
