"""Random models of every supported transformers class: imported, their logits agree at every position."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="Hugging Face import is tested against transformers")

from interop_models import (
    CONTEXT,
    MODELS,
    VOCAB,
    make_model,
    our_logits,
    save_model,
    their_logits,
    tiny_tokenizer,
    worst,
)

from tinylm.errors import DataError, FormatError, UserError
from tinylm.interop.hf_import import read_hf
from tinylm.interop.imports import import_model, read_checkpoint
from tinylm.modelfile import read_model
from tinylm.tokenizer import load_tokenizer


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_logits_agree_at_every_position(name: str, seed: int, tmp_path: Path) -> None:
    model = make_model(name, seed)
    checkpoint = read_hf(save_model(model, tmp_path))
    tokens = np.random.default_rng(seed).integers(0, VOCAB, CONTEXT).tolist()
    assert worst(our_logits(checkpoint, tokens), their_logits(model, tokens)) < 1e-4


def test_shards_half_floats_and_bare_names(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    model = make_model("gpt2", 3).to(torch.bfloat16)
    whole, sharded, bare = (save_model(model, tmp_path / name) for name in ("whole", "sharded", "bare"))
    model.save_pretrained(sharded, max_shard_size="20KB")
    (sharded / "model.safetensors").unlink(missing_ok=True)
    assert len(list(sharded.glob("*.safetensors"))) > 1
    tensors = load_file(bare / "model.safetensors")
    save_file({name.removeprefix("transformer."): value for name, value in tensors.items()}, bare / "model.safetensors")
    first, *others = (read_hf(folder) for folder in (whole, sharded, bare))
    for other in others:
        assert other.config == first.config
        assert all(np.array_equal(other.weights[name], rows) for name, rows in first.weights.items())


def test_gpt2_vocab_and_merges_equal_tokenizer_json(tmp_path: Path) -> None:
    save_model(make_model("gpt2", 1), tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(document["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in document["merges"]))
    (tmp_path / "tokenizer.json").unlink()
    found = load_tokenizer(read_hf(tmp_path).tokenizer)
    text = "the  theme, then\n é <|endoftext|>"
    assert found.encode(text) == load_tokenizer(tiny_tokenizer()).encode(text)
    assert found.decode(found.encode(text)) == text


def test_bos_is_added_only_where_the_tokenizer_adds_it(tmp_path: Path) -> None:
    save_model(make_model("gpt2", 1), tmp_path)
    bare = read_hf(tmp_path)
    assert (bare.bos_id, bare.eos_id, bare.add_bos) == (256, 256, False)
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    assert read_hf(tmp_path).add_bos


def test_import_writes_a_model_file(tmp_path: Path) -> None:
    save_model(make_model("llama", 1), tmp_path)
    import_model(tmp_path, tmp_path / "model.tlm.safetensors", precision="f32")
    file = read_model(tmp_path / "model.tlm.safetensors")
    expected = read_checkpoint(tmp_path)
    assert file.config == expected.config
    assert all(np.array_equal(rows, expected.weights[name]) for name, rows in file.dequantized().items())


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "rope scaling": ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4}}, "llama3"),
    "old rope scaling": ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "linear"),
    "activation": ("llama", {"hidden_act": "mish"}, "mish"),
    "gated gelu": ("llama", {"hidden_act": "gelu"}, "gelu"),
    "partial rotation": ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial rotary"),
    "mixture of experts": ("llama", {"architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM"),
    "encoder": ("llama", {"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
    "no class": ("llama", {"architectures": None}, "architecture none"),
    "two classes": ("llama", {"architectures": ["LlamaForCausalLM", "GPT2LMHeadModel"]}, "GPT2"),
    "class not text": ("llama", {"architectures": [3]}, "3"),
    "quantised": ("llama", {"quantization_config": {"bits": 4}}, "quantis"),
    "cross attention": ("gpt2", {"add_cross_attention": True}, "cross"),
    "gpt2 activation": ("gpt2", {"activation_function": "tanh"}, "tanh"),
    "no width": ("llama", {"hidden_size": None}, "hidden_size is missing"),
    "width is text": ("llama", {"hidden_size": "32"}, "hidden_size"),
    "width is true": ("llama", {"hidden_size": True}, "hidden_size"),
    "width negative": ("llama", {"hidden_size": -32}, "d_model"),
    "width zero": ("gpt2", {"n_embd": 0}, "d_model"),
    "width huge": ("llama", {"hidden_size": 1 << 62}, "d_model"),
    "width wrong": ("llama", {"hidden_size": 36}, "shape"),
    "heads zero": ("gpt-neo", {"num_heads": 0}, "n_heads"),
    "heads do not divide": ("llama", {"num_key_value_heads": 3}, "n_kv_heads"),
    "layers too many": ("llama", {"num_hidden_layers": 4}, "layers.3"),
    "layers too few": ("llama", {"num_hidden_layers": 2}, "layers.2"),
    "vocabulary wrong": ("llama", {"vocab_size": 301}, "shape"),
    "vocabulary below tokenizer": ("llama", {"vocab_size": 100}, "260 tokens, the model has 100"),
    "tied by mistake": ("gpt-neox", {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    "bias not declared": ("llama-tied-biased", {"attention_bias": False, "mlp_bias": False}, "no place"),
    "eps not finite": ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
    "eps too large": ("llama", {"rms_norm_eps": 3.0}, "norm_eps"),
    "theta zero": ("llama", {"rope_parameters": {"rope_theta": 0.0}}, "rope_theta"),
    "rope not an object": ("llama", {"rope_parameters": [1]}, "rope_parameters"),
    "attention types": ("gpt-neo", {"attention_types": [[["global"], 2]]}, "attention_types"),
    "attention types unknown": ("gpt-neo", {"attention_types": [[["sparse"], 3]]}, "attention_types"),
    "attention types endless": ("gpt-neo", {"attention_types": [[["global"], 1 << 40]]}, ""),
    "layer types": ("qwen2-window", {"layer_types": ["full_attention"]}, "layer_types"),
    "context zero": ("llama", {"max_position_embeddings": 0}, "context_length"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    name, changes, reason = REFUSED[case]
    save_model(make_model(name, 1), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(settings))
    if case == "attention types endless":  # repeats past the layers are cut: the model is the same
        read_hf(tmp_path)
        return
    with pytest.raises(UserError, match=reason):
        read_hf(tmp_path)


_WORD_PIECES = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "a": 1},
        },
    }
).encode()


def _files() -> dict[str, tuple[str, bytes | None]]:
    """Return case → (file of the folder, its new content or None to remove it)."""
    return {
        "no config": ("config.json", None),
        "config empty": ("config.json", b""),
        "config not json": ("config.json", b"{"),
        "config a list": ("config.json", b"[]"),
        "config deep": ("config.json", b'{"a":' * 100_000),
        "config not utf-8": ("config.json", b'{"a": "\xff"}'),
        "no weights": ("model.safetensors", None),
        "weights empty": ("model.safetensors", b""),
        "weights text": ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
        "header too long": ("model.safetensors", (1 << 62).to_bytes(8, "little") + b"{}"),
        "header over the cap": ("model.safetensors", (200_000_000).to_bytes(8, "little") + b"{" * 64),
        "index not json": ("model.safetensors.index.json", b"nope"),
        "index without map": ("model.safetensors.index.json", b"{}"),
        "index climbs out": ("model.safetensors.index.json", b'{"weight_map": {"a": "../model.safetensors"}}'),
        "index names a pickle": ("model.safetensors.index.json", b'{"weight_map": {"a": "pytorch_model.bin"}}'),
        "index names nothing": ("model.safetensors.index.json", b'{"weight_map": {"a": "absent.safetensors"}}'),
        "index of numbers": ("model.safetensors.index.json", b'{"weight_map": {"a": 3}}'),
        "no tokenizer": ("tokenizer.json", None),
        "tokenizer empty": ("tokenizer.json", b""),
        "tokenizer not json": ("tokenizer.json", b"{]"),
        "tokenizer of another kind": ("tokenizer.json", b'{"version": "1.0"}'),
        "tokenizer of word pieces": ("tokenizer.json", _WORD_PIECES),
    }


@pytest.mark.parametrize("case", _files())
def test_a_damaged_folder_is_a_named_error(case: str, tmp_path: Path) -> None:
    save_model(make_model("llama", 1), tmp_path)
    name, content = _files()[case]
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError):
        read_hf(tmp_path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    save_model(make_model("llama", 1), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="never unpickles"):
        read_hf(tmp_path)


def test_integer_and_infinite_weights_are_refused(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    save_model(make_model("llama", 1), tmp_path)
    path = tmp_path / "model.safetensors"
    good = load_file(path)
    for bad, error in ((torch.ones(32, dtype=torch.int8), DataError), (torch.full((32,), float("inf")), FormatError)):
        save_file({**good, "model.norm.weight": bad}, path)
        with pytest.raises(error, match=r"norm\.weight"):
            read_hf(tmp_path)


def test_every_truncation_is_a_named_error(tmp_path: Path) -> None:
    save_model(make_model("llama", 1), tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    for size in [*range(0, header, 7), *range(header, len(whole), 977), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_hf(tmp_path)


def test_a_name_that_is_neither_folder_nor_hub_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_checkpoint(tmp_path / "absent")


def test_the_hub_out_of_reach_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(DataError, match=r"owner/name: .*no route to host"):
        read_checkpoint("owner/name")
