"""One text per (model, prompt, options, sample), whatever shares the batch."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest

from tinylm.config import GenerateOptions
from tinylm.engine import Request, load_engine
from tinylm.machine import available_isas

SEEDED = GenerateOptions(max_new_tokens=20, temperature=0.9, top_k=30, top_p=0.95, seed=7, repetition_penalty=1.1)
GREEDY = GenerateOptions(max_new_tokens=20, temperature=0)
TABLES: dict[str, Any] = {"value_embeddings": True, "ngram_rows": (97, 512), "copy_ngrams": 4}


def _requests() -> list[Request]:
    rng = np.random.default_rng(3)
    shared = rng.integers(3, 7, 9).tolist()  # repeats itself, and so does the longest prompt
    prompts = [rng.integers(3, 90 if size < 30 else 7, size).tolist() for size in (1, 2, 5, 12, 30)]
    prompts += [shared + prompt[:2] for prompt in prompts] + [shared] * 6  # beginnings to share
    return [Request(prompt, SEEDED if i % 3 else GREEDY, i % 4, i) for i, prompt in enumerate(prompts)]


def _texts(path: Any, order: list[int], **setup: Any) -> dict[object, list[int]]:
    requests = _requests()
    with load_engine(path, **setup) as engine:
        done = list(engine.generate([requests[i] for i in order], ordered=False))
    return {completion.tag: completion.token_ids for completion in done}


@pytest.mark.parametrize(("precision", "parts"), [("int8", {}), ("f32", {}), ("int8", TABLES)])
def test_text_does_not_depend_on_company(precision: str, parts: dict[str, Any], build_model: Any) -> None:
    path = build_model(precision, n_kv_heads=2, vocab_size=200, **parts)
    count = len(_requests())
    forward, backward = list(range(count)), list(range(count))[::-1]
    shuffled = [int(i) for i in np.random.default_rng(1).permutation(count)]
    expected = _texts(path, forward, replicas=1, max_batch=1)
    assert len({tuple(text) for text in expected.values()}) > count // 2, "equal texts prove nothing"
    for batch, threads, replicas in itertools.product((2, 3, 16, 64), (1, 2), (1, 2)):
        order = (forward, backward, shuffled)[(batch + threads + replicas) % 3]
        setup = {"max_batch": batch, "threads_per_replica": threads, "replicas": replicas}
        assert _texts(path, order, **setup) == expected, setup
    for isa in available_isas():
        assert _texts(path, shuffled, isa=isa, replicas=1, max_batch=7, threads_per_replica=4) == expected, isa


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no thread to a core")
@pytest.mark.parametrize("slots", [4, 24])  # threads share channels, and rows
def test_text_does_not_depend_on_threads_that_rest(slots: int, build_model: Any) -> None:
    """Two threads that have one core between them: now and then one of them does a step alone."""
    path = build_model("int8", context_length=320, vocab_size=200, d_model=128, tied_embeddings=False)
    options = SEEDED.model_copy(update={"max_new_tokens": 300, "ignore_eos": True})
    requests = [Request([3 + i, 7], options, 0, i) for i in range(slots)]
    texts = []
    cores = os.sched_getaffinity(0)
    for threads in (1, 2):
        os.sched_setaffinity(0, {min(cores)})
        try:
            with load_engine(path, replicas=1, threads_per_replica=threads, max_batch=slots) as engine:
                texts.append([completion.token_ids for completion in engine.generate(requests)])
        finally:
            os.sched_setaffinity(0, cores)
    assert len({token for text in texts[0] for token in text}) > 100, "dull texts prove nothing"
    assert texts[0] == texts[1]


@pytest.mark.parametrize("parts", [{}, TABLES])
def test_logits_do_not_depend_on_chunks(parts: dict[str, Any], build_model: Any) -> None:
    """A prompt read beside other work, in pieces, gives the bits that it gives alone."""
    path = build_model("int8", context_length=300, **parts)
    tokens = [int(t) for t in np.random.default_rng(8).integers(0, 90, 290)]
    with load_engine(path, replicas=1, threads_per_replica=1, max_batch=1) as engine:
        alone = engine.logits(tokens)
    with load_engine(path, replicas=1, threads_per_replica=2, max_batch=40) as engine:
        busy = [engine.submit(Request(tokens[: 10 + i], GREEDY)) for i in range(30)]
        beside = engine.logits(tokens)
        for ticket in busy:
            engine.cancel(ticket)
    assert np.array_equal(alone.view(np.uint32), beside.view(np.uint32))


def test_samples_of_one_prompt_differ_and_repeat(build_model: Any) -> None:
    path = build_model("int8", vocab_size=200)
    prompt = list(range(3, 20))
    with load_engine(path, replicas=1, max_batch=8) as engine:
        first = [c.token_ids for c in engine.generate([Request(prompt, SEEDED, sample) for sample in range(12)])]
        before = engine.stats().rows
        again = [c.token_ids for c in engine.generate([Request(prompt, SEEDED, sample) for sample in range(12)])]
        rows = engine.stats().rows - before
    assert first == again
    assert len({tuple(text) for text in first}) > 6
    # The prompt of 17 tokens is read about once, not twelve times: the rest are copies.
    assert rows < sum(map(len, again)) + 2 * len(prompt) + 12


def test_a_prompt_read_before_is_copied_into_a_longer_place(build_model: Any) -> None:
    path = build_model("int8", vocab_size=200, context_length=512)
    shared, options = list(range(3, 103)), GREEDY.model_copy(update={"max_new_tokens": 8})
    longer = options.model_copy(update={"max_new_tokens": 300})
    with load_engine(path, replicas=1, max_batch=4) as fresh:
        expected = next(iter(fresh.generate([Request([*shared, 7], longer)]))).token_ids
    with load_engine(path, replicas=1, max_batch=4) as engine:
        list(engine.generate([Request(shared, options)]))
        before = engine.stats().rows
        again = next(iter(engine.generate([Request([*shared, 7], longer)]))).token_ids
        assert engine.stats().rows - before < len(again) + 5
        list(engine.generate([Request([*shared, 7], options)]))  # fits the longer place, where it lies
        assert engine.stats().rows - before < len(again) + 15
    assert again == expected
