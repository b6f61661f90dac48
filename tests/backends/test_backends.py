"""The backends compute the same model: equal logits, equal greedy text, equal seeded text with the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinylm.backends import BACKENDS, Backend, open_backend
from tinylm.backends.compare import compare_backends
from tinylm.backends.sampling import Sampler, philox, uniform
from tinylm.config import GenerateOptions, ModelConfig
from tinylm.errors import ConfigError, DataError
from tinylm.modelfile import random_weights
from tinylm.presets import PRESETS
from tinylm.quantize import write_model

VOCAB = 320
# Parts that no preset has, or not in this combination.
EXTRA: dict[str, dict[str, object]] = {
    "grouped": {"n_heads": 6, "n_kv_heads": 2, "d_model": 48, "bias": True, "tied_embeddings": False},
    "qk-norm": {"n_heads": 2, "n_kv_heads": 1, "d_model": 32, "head_dim": 24, "qk_norm": True},
    "windows": {"n_heads": 2, "n_kv_heads": 2, "d_model": 32, "local_window": 5, "local_layers": (1,)},
    "relu2": {"n_heads": 2, "n_kv_heads": 2, "d_model": 32, "activation": "relu2"},
    "parallel": {
        "n_heads": 2,
        "n_kv_heads": 2,
        "d_model": 32,
        "norm": "layernorm",
        "activation": "gelu",
        "bias": True,
        "parallel_residual": True,
        "rotary_fraction": 0.5,
    },
    "soft-cap": {"n_heads": 2, "n_kv_heads": 2, "d_model": 32, "logit_softcap": 4.0},
}


def config_of(name: str) -> ModelConfig:
    if name in PRESETS:
        return PRESETS[name].model_copy(update={"vocab_size": VOCAB, "context_length": 48, "n_layers": 2})
    values = {"vocab_size": VOCAB, "context_length": 48, "n_layers": 2, "d_ff": 64, **EXTRA[name]}
    return ModelConfig.model_validate(values)


def write(name: str, folder: Path, seed: int = 1) -> Path:
    config = config_of(name)
    rng = np.random.default_rng(seed)
    weights = random_weights(config, seed)
    for key, rows in weights.items():
        if "norm" in key:
            weights[key] = rows + 0.1 * rng.standard_normal(rows.shape, np.float32)
        elif "embeddings" in key or key.endswith(("wo.weight", "w_down.weight")):
            weights[key] = rows * 4  # peaked logits, and layers that outweigh the token's own embedding
    path = folder / f"{name}.safetensors"
    write_model(path, config, weights, b"", "bytes", None, None, "f32", {})
    return path


def backends_for(path: Path, name: str) -> list[Backend]:
    """Open every backend that has this model; transformers lacks the soft cap and lookup tables."""
    names = [backend for backend in BACKENDS if not (backend == "hf" and name in ("soft-cap", "story-tables"))]
    if "hf" in names:
        pytest.importorskip("transformers", reason="the hf backend is transformers")
    return [open_backend(backend, path) for backend in names]


@pytest.mark.parametrize("name", [*PRESETS, *EXTRA])
def test_logits_and_greedy_text_are_equal_on_all(name: str, tmp_path: Path) -> None:
    backends = backends_for(write(name, tmp_path), name)
    random = np.random.default_rng(0)
    tokens = [*random.integers(0, VOCAB, 20).tolist(), *random.integers(0, 4, 20).tolist()]  # new ones, then repeats
    first, *others = [backend.logits(tokens) for backend in backends]
    scale = np.abs(first).max(axis=1, keepdims=True)
    assert (scale > 0.5).all(), "the reference is flat: it would agree with anything"
    for backend, logits in zip(backends[1:], others, strict=True):
        assert (np.abs(logits - first) / scale).max() < 1e-4, backend.name
    # The penalty keeps random weights from repeating one token, which would hide differences.
    greedy = GenerateOptions(temperature=0, max_new_tokens=60, repetition_penalty=8)
    made = [backend.generate("ab", greedy) for backend in backends]
    assert len(made[0].token_ids) == 46
    assert len(set(made[0].token_ids)) > 20
    for backend, generation in zip(backends, made, strict=True):
        assert generation.token_ids == made[0].token_ids, backend.name
        assert generation.finish_reason == "context_full", backend.name
        backend.close()


SAMPLING = {
    "usual": GenerateOptions(),
    "top-p alone": GenerateOptions(top_k=0, top_p=0.9),
    "nothing cut": GenerateOptions(top_k=0, top_p=1),
    "min-p": GenerateOptions(top_k=0, top_p=1, min_p=0.05),
    "penalty": GenerateOptions(top_k=5, repetition_penalty=1.4),
    "hot": GenerateOptions(temperature=2.5, top_k=30, top_p=0.6),
}


@pytest.mark.parametrize("case", SAMPLING)
def test_plain_sampling_draws_what_the_engine_draws(case: str, tmp_path: Path) -> None:
    path = write("llama-8m", tmp_path)
    native, plain = open_backend("native", path), open_backend("numpy", path)
    texts = set()
    for seed in range(6):
        options = SAMPLING[case].model_copy(update={"seed": seed + (seed << 40), "max_new_tokens": 30})
        engine, reading = native.generate("x", options), plain.generate("x", options)
        assert reading.token_ids == engine.token_ids
        texts.add(tuple(reading.token_ids))
    assert len(texts) > 3, "the seeds must matter"
    native.close()


def test_stop_strings_and_lengths_end_a_text_alike(tmp_path: Path) -> None:
    path = write("llama-8m", tmp_path)
    native, plain = open_backend("native", path), open_backend("numpy", path)
    whole = plain.generate("story", GenerateOptions(temperature=0, max_new_tokens=30))
    stop = whole.text[len(whole.text) // 2 :][:2]
    for options in (
        GenerateOptions(temperature=0, stop=(stop, "zzz")),
        GenerateOptions(temperature=0, max_new_tokens=0),
        GenerateOptions(temperature=0, max_new_tokens=1),
    ):
        one, other = native.generate("story", options), plain.generate("story", options)
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
    native.close()


def test_philox_gives_the_published_numbers() -> None:
    # Random123's known-answer file, philox4x32 with 10 rounds.
    ones = 0xFFFFFFFF
    assert philox((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox((ones, ones, ones, ones), (ones, ones)) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    assert 0 <= uniform(2**63 - 1, 2**40, 511) < 1


def test_greedy_ties_go_to_the_smaller_id() -> None:
    logits = np.array([0, 2, 2, 1], np.float32)
    assert Sampler(GenerateOptions(temperature=0), []).choose(logits, 0) == 1
    assert Sampler(GenerateOptions(temperature=1, top_k=1), []).choose(logits, 0) == 1


@pytest.mark.parametrize("name", ["native", "numpy"])
def test_a_prompt_that_cannot_be_continued_is_refused(name: str, tmp_path: Path) -> None:
    backend = open_backend(name, write("llama-8m", tmp_path))
    for prompt in ("", "x" * 49):
        with pytest.raises(DataError):
            backend.generate(prompt, GenerateOptions())
    backend.close()


@pytest.mark.parametrize(("name", "part"), [("soft-cap", "logit_softcap"), ("story-tables", "ngram_rows")])
def test_compare_says_what_is_equal_and_what_could_not_run(name: str, part: str, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    rows = compare_backends(
        path, "ab", GenerateOptions(temperature=0, max_new_tokens=8), names=("numpy", "native", "hf")
    )
    assert [row.backend for row in rows] == ["numpy", "native", "hf"]
    assert [row.equal for row in rows] == ["", "yes", ""]
    assert part in rows[2].error or "not installed" in rows[2].error
    assert all(row.tokens_per_s > 0 and row.first_token_ms > 0 and row.peak_mb > 1 for row in rows[:2])
    with pytest.raises(ConfigError, match="known backends: native, torch, numpy, hf"):
        compare_backends(path, "ab", GenerateOptions(), names=("jax",))
