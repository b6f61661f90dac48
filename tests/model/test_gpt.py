"""The reference model: every part of `ModelConfig` acts, the cache changes nothing, the future is not seen."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tinylm.config import GenerateOptions, ModelConfig
from tinylm.errors import ConfigError
from tinylm.model import GPT, Cache, generate, initialise
from tinylm.presets import PRESETS, preset
from tinylm.train.loss import next_token_loss

TINY: dict[str, Any] = {
    "vocab_size": 37,
    "context_length": 16,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 4,
    "d_model": 32,
    "d_ff": 48,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"qk_norm": True, "tied_embeddings": False},
    "gpt2": {"norm": "layernorm", "position": "learned", "activation": "gelu_tanh", "bias": True},
    "sinusoidal": {"norm": "layernorm", "position": "sinusoidal", "activation": "gelu"},
    "relu2, grouped, capped": {"activation": "relu2", "n_kv_heads": 2, "logit_softcap": 15.0},
    "parallel, partly rotated": {"parallel_residual": True, "rotary_fraction": 0.5, "norm": "layernorm"},
    "vectors of tokens in the values": {"value_embeddings": True, "n_kv_heads": 2, "qk_norm": True},
    "pairs and triples": {"ngram_rows": (61, 128)},
    "what came after": {"copy_ngrams": 4},
    "local windows, wide heads": {"local_window": 4, "local_layers": (1,), "head_dim": 12},
}


def tiny(name: str) -> ModelConfig:
    return ModelConfig(**{**TINY, **VARIANTS[name]})


def drawn(name: str) -> GPT:
    """Return a model without zeros: lookup tables start with them, and would prove nothing."""
    model = GPT(tiny(name))
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_learns_and_uses_all_its_weights(name: str) -> None:
    model = GPT(tiny(name))
    rows = torch.randint(37, (4, 17))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = next_token_loss(model, rows[:, :-1], rows[:, 1:], rows=8)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
        optimizer.step()
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("name", VARIANTS)
def test_cached_positions_score_as_uncached_ones(name: str) -> None:
    model, tokens = drawn(name), torch.randint(9, (2, 12))
    cache = Cache()
    parts = [model(tokens[:, start:stop], cache) for start, stop in ((0, 5), (5, 6), (6, 12))]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_future_is_not_seen(name: str) -> None:
    model, tokens = drawn(name), torch.randint(9, (1, 12))
    changed = tokens.clone()
    changed[0, 7:] = (changed[0, 7:] + 1) % 37
    assert torch.equal(model(tokens)[:, :7], model(changed)[:, :7])
    assert not torch.equal(model(tokens)[:, 7:], model(changed)[:, 7:])


def last_use(text: list[int], longest: int) -> tuple[int, int]:
    """Return the length of the longest n-gram that ends `text` and stood in it before, and the token after it."""
    for n in range(longest, 0, -1):
        for end in range(len(text) - 1, n - 1, -1):
            if text[end - n : end] == text[-n:]:
                return n, text[end]
    return 0, 0


def test_what_came_after_the_last_use_is_looked_up() -> None:
    model = GPT(ModelConfig(**{**TINY, "copy_ngrams": 4}))
    torch.nn.init.normal_(table := model.copy_embeddings.weight)
    texts = torch.randint(4, (8, 30))
    expected, lengths = torch.zeros(8, 30, 32), set()
    for b, t in product(range(8), range(30)):
        n, token = last_use(texts[b, : t + 1].tolist(), 4)
        lengths.add(n)
        expected[b, t] = table[37 + n] + (table[token] if n else 0)
    assert lengths == {0, 1, 2, 3, 4}
    torch.testing.assert_close(model.copy_embeddings.of_text(texts, 30), expected)
    assert torch.equal(model.copy_embeddings.of_text(texts, 3), model.copy_embeddings.of_text(texts, 30)[:, 27:])


def test_tokens_without_an_earlier_use_move_no_row_of_tokens() -> None:
    model = GPT(ModelConfig(**{**TINY, "copy_ngrams": 4}))
    model.copy_embeddings.of_text(torch.arange(9)[None], 9).sum().backward()
    assert model.copy_embeddings.weight.grad.any(dim=1).nonzero().flatten().tolist() == [37]


def test_local_layers_see_their_window_only() -> None:
    config = ModelConfig(**{**TINY, "local_window": 3, "local_layers": (0, 1)})
    model, tokens = GPT(config), torch.randint(37, (1, 12))
    changed = tokens.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 37  # two layers of three positions reach four positions back
    assert torch.equal(model(tokens)[:, 5:], model(changed)[:, 5:])
    assert not torch.equal(model(tokens)[:, 4], model(changed)[:, 4])


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_chunked_loss_equals_cross_entropy_and_its_gradients(cap: float) -> None:
    config = ModelConfig(**{**TINY, "logit_softcap": cap, "tied_embeddings": False})
    model, rows = GPT(config), torch.randint(37, (3, 15))
    loss = next_token_loss(model, rows[:, :-1], rows[:, 1:], rows=5)  # 42 rows: the last chunk is short
    loss.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    plain = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    plain.backward()
    torch.testing.assert_close(loss, plain, atol=1e-6, rtol=1e-6)
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert p.grad.abs().max() > 1e-4, f"{name}: a flat gradient proves nothing"
        torch.testing.assert_close(ours[name], p.grad, atol=1e-6, rtol=1e-4)


def test_recomputed_layers_give_the_same_gradients() -> None:
    model, rows = GPT(tiny("qwen3")), torch.randint(37, (2, 9))
    grads = []
    for model.checkpoint_activations in (False, True):
        model.zero_grad()
        next_token_loss(model, rows[:, :-1], rows[:, 1:], rows=64).backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_zeroed_projections_start_from_uniform_predictions() -> None:
    model = GPT(tiny("qwen3"))
    initialise(model, zero_projections=True)
    assert torch.equal(model(torch.randint(37, (1, 5))), torch.zeros(1, 5, 37))


@pytest.mark.parametrize("name", ["llama", "qwen3", "relu2, grouped, capped"])
def test_a_copying_start_returns_what_is_looked_at(name: str) -> None:
    model = GPT(tiny(name))
    initialise(model, zero_projections=True, embedding_std=1.0, copying=True)
    config, x = model.config, torch.randn(5, 1, model.config.d_model)
    for layer in model.layers:
        alone = layer.attn(x, None, (model.rope_cos[:1], model.rope_sin[:1]), None, 0)  # all attention on itself
        read = layer.attn.wv(x).square().sum(-1) * (config.n_heads / config.n_kv_heads)
        torch.testing.assert_close((alone * x).sum(-1), read)
    if not config.tied_embeddings:
        tokens = torch.arange(37)[:, None]
        assert torch.equal(model(tokens)[:, -1].argmax(-1), tokens[:, 0])


def test_generation_ends_at_eos_at_the_limit_and_at_the_context() -> None:
    model = GPT(tiny("llama"))
    greedy = GenerateOptions(temperature=0, max_new_tokens=5)
    [row] = generate(model, [1], greedy)
    expected: list[int] = [1]
    for _ in range(5):
        expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))
    assert row == expected[1:]
    assert generate(model, [1], greedy, eos_id=row[2]) == [row[: row.index(row[2])]]
    assert len(generate(model, [1] * 14, GenerateOptions(max_new_tokens=9))[0]) == 2


def test_samples_depend_on_the_seed_alone() -> None:
    model = GPT(tiny("llama"))
    draw = [generate(model, [1], GenerateOptions(max_new_tokens=8, seed=seed), samples=3) for seed in (5, 5, 6)]
    assert draw[0] == draw[1] != draw[2]


def test_more_positions_than_the_context_are_refused() -> None:
    with pytest.raises(ConfigError, match="17 positions asked, the model has 16"):
        GPT(tiny("llama"))(torch.zeros(1, 17, dtype=torch.long))


def test_presets_have_the_sizes_they_are_named_for() -> None:
    with torch.device("meta"):
        sizes = {name: sum(p.numel() for p in GPT(shape).parameters()) for name, shape in PRESETS.items()}
    assert sizes["gpt2"] == 124_439_808  # published: 124 M
    assert 50e6 < sizes["slm-51m"] < 52e6
    assert 19e6 < sizes["llama-20m"] < 22e6
    with pytest.raises(ConfigError, match="known presets: quickstart"):
        preset("quick")
