"""The engine against PyTorch: every part of the model family, every position, every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tinylm.config import GenerateOptions
from tinylm.engine import load_engine
from tinylm.machine import available_isas
from tinylm.model import GPT, generate
from tinylm.modelfile import read_model

FEATURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"norm": "layernorm", "position": "learned", "activation": "gelu_tanh", "bias": True},
    "slm": {"norm": "layernorm", "position": "learned", "activation": "gelu"},
    "sinusoidal": {"norm": "layernorm", "position": "sinusoidal", "activation": "gelu", "bias": True},
    "relu2_untied": {"activation": "relu2", "tied_embeddings": False},
    "grouped": {"n_kv_heads": 2, "bias": True},
    "one_kv_head": {"n_kv_heads": 1, "qk_norm": True, "norm_eps": 1e-6},
    "softcap": {"logit_softcap": 5.0},
    "partial_rotary_parallel": {"rotary_fraction": 0.5, "parallel_residual": True, "rope_theta": 500.0},
    "local": {"local_window": 7, "local_layers": (1,), "position": "learned"},
    "odd_sizes": {"vocab_size": 130, "d_model": 44, "n_heads": 3, "n_kv_heads": 3, "head_dim": 10, "d_ff": 53},
    "value_embeddings": {"value_embeddings": True, "n_kv_heads": 2, "qk_norm": True, "tied_embeddings": False},
    "ngrams": {"ngram_rows": (31, 64, 200)},
    "copies": {"copy_ngrams": 4},
    "tables": {"value_embeddings": True, "ngram_rows": (64,), "copy_ngrams": 4, "n_kv_heads": 2},
    "wide_heads": {"head_dim": 40, "n_heads": 2, "n_kv_heads": 1},
}
DRAWN = np.random.default_rng(5)
TOKENS = [*DRAWN.integers(0, 97, 24).tolist(), *DRAWN.integers(0, 4, 24).tolist()]  # the second half repeats itself


def _torch_model(path: Any) -> GPT:
    stored = read_model(path)
    model = GPT(stored.config)
    weights = {name: torch.from_numpy(value.copy()) for name, value in stored.dequantized().items()}
    model.load_state_dict(weights)
    return model.eval()


@pytest.mark.parametrize("name", FEATURES)
def test_f32_logits_equal_pytorch(name: str, build_model: Any) -> None:
    path = build_model(**FEATURES[name])
    with torch.no_grad():
        expected = _torch_model(path)(torch.tensor([TOKENS]))[0].numpy()
    assert expected.std(axis=1).min() > 0.1, "a flat reference proves nothing"
    with load_engine(path, replicas=1, max_batch=2) as engine:
        found = engine.logits(TOKENS)
    error = np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() < 1e-4


@pytest.mark.parametrize("name", FEATURES)
def test_greedy_text_equals_pytorch(name: str, build_model: Any) -> None:
    path = build_model(**FEATURES[name])
    prompts = [TOKENS[:5], TOKENS[7:8], TOKENS[3:30]]
    options = GenerateOptions(max_new_tokens=30, temperature=0)
    expected = [generate(_torch_model(path), prompt, options, eos_id=2)[0] for prompt in prompts]
    with load_engine(path, replicas=1, max_batch=2) as engine:
        found = [completion.token_ids for completion in engine.generate(prompts, options)]
    assert found == expected


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "one_kv_head", "odd_sizes", "local", "tables"])
def test_every_isa_gives_the_same_bits(name: str, precision: str, build_model: Any) -> None:
    path = build_model(precision, **FEATURES[name])
    logits = []
    for isa in available_isas():
        with load_engine(path, replicas=1, threads_per_replica=2, isa=isa) as engine:
            assert engine.info.isa == isa
            logits.append(engine.logits(TOKENS))
    for other in logits[1:]:
        assert np.array_equal(logits[0].view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize("name", ["llama", "tables"])
@pytest.mark.parametrize(("precision", "limit"), [("bf16", 0.02), ("int8", 0.05), ("int4", 0.05)])
def test_small_precisions_stay_near_the_dequantised_model(
    name: str, precision: str, limit: float, build_model: Any
) -> None:
    path = build_model(precision, **FEATURES[name])
    with torch.no_grad():
        expected = _torch_model(path)(torch.tensor([TOKENS]))[0].numpy()
    with load_engine(path, replicas=1) as engine:
        found = engine.logits(TOKENS)
    rms = np.sqrt(np.square(found - expected).mean()) / expected.std()
    assert rms < limit  # the weights are the same, so only activations and the cache round differently
