"""The sampler's choices against probabilities computed in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinylm.config import GenerateOptions
from tinylm.engine import Request, load_engine

DRAWS = 6000


def _expected(logits: npt.NDArray[np.float32], options: GenerateOptions) -> npt.NDArray[np.float64]:
    values = logits.astype(np.float64)
    seen = np.array([1, 4, 9])
    values[seen] = np.where(
        values[seen] > 0, values[seen] / options.repetition_penalty, values[seen] * options.repetition_penalty
    )
    p = np.exp((values - values.max()) / options.temperature)
    order = np.argsort(-values, kind="stable")
    ranked = p[order]
    if options.top_k:
        ranked[options.top_k :] = 0
    before = np.cumsum(ranked) - ranked
    ranked[before >= options.top_p * ranked.sum()] = 0
    ranked[ranked < options.min_p] = 0
    result = np.zeros_like(p)
    result[order] = ranked / ranked.sum()
    return result


@pytest.mark.parametrize("vocab_size", [97, 3000])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0},
        {"temperature": 0.7, "top_k": 5, "top_p": 1.0},
        {"temperature": 1.5, "top_k": 40, "top_p": 0.8},
        {"temperature": 1.0, "top_k": 0, "top_p": 0.6},
        {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.2},
        {"temperature": 1.0, "top_k": 60, "top_p": 0.99, "repetition_penalty": 3.0},
    ],
    ids=str,
)
def test_draws_follow_the_probabilities(options: dict[str, Any], vocab_size: int, build_model: Any) -> None:
    path = build_model("f32", eos=None, vocab_size=vocab_size)
    settings = GenerateOptions(max_new_tokens=1, seed=11, **options)
    prompt = [1, 4, 9]
    with load_engine(path, replicas=1, max_batch=64) as engine:
        expected = _expected(engine.logits(prompt)[-1], settings)
        requests = (Request(prompt, settings, sample) for sample in range(DRAWS))
        draws = [completion.token_ids[0] for completion in engine.generate(requests)]
    counts = np.bincount(draws, minlength=vocab_size)
    assert not counts[expected == 0].any(), "a token outside the kept set was drawn"
    likely = expected * DRAWS >= 5
    spread = np.sqrt(expected[likely] * (1 - expected[likely]) * DRAWS) + 1e-9
    assert (np.abs(counts[likely] - expected[likely] * DRAWS) / spread).max() < 4.5
