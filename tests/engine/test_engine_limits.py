"""Limits are answers, not failures; cancelling, stop strings, streams and scores agree with plain generation."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from tinylm.config import GenerateOptions
from tinylm.engine import Engine, Request, load_engine
from tinylm.errors import DataError, EngineError, FormatError

GREEDY = GenerateOptions(max_new_tokens=10, temperature=0, ignore_eos=True)
CONTEXT = 48


@pytest.fixture(scope="module")
def engine(build_model: Any) -> Any:
    with load_engine(build_model("int8", vocab_size=256), replicas=1, max_batch=4) as engine:
        yield engine


def _one(engine: Engine, prompt: Any, options: GenerateOptions = GREEDY, **more: Any) -> Any:
    return next(engine.generate([Request(prompt, options, **more)]))


@pytest.mark.parametrize(
    ("length", "reason", "made"),
    [(CONTEXT - 3, "context_full", 3), (CONTEXT - 1, "context_full", 1), (CONTEXT, "context_full", 0),
     (CONTEXT + 1, "invalid_input", 0), (10 * CONTEXT, "invalid_input", 0), (CONTEXT - 10, "length", 10)],
)  # fmt: skip
def test_context_limits(engine: Engine, length: int, reason: str, made: int) -> None:
    done = _one(engine, [5] * length)
    assert (done.finish_reason, done.output_tokens, done.prompt_tokens) == (reason, made, length)
    assert (done.error is not None) == (reason == "invalid_input")


@pytest.mark.parametrize("prompt", [[5, 256], [-1], [2**31], [2**70], [[1], [2]], [1.5], None, 5, "bad \ud800 text"])
def test_bad_prompts_fail_alone(engine: Engine, prompt: Any) -> None:
    done = list(engine.generate([[5, 6], prompt, [5, 6]], GREEDY))
    assert [completion.finish_reason for completion in done] == ["length", "invalid_input", "length"]
    assert done[1].error
    assert done[0].token_ids == done[2].token_ids
    with pytest.raises(DataError):
        list(engine.stream(prompt, GREEDY))
    ticket = engine.submit(Request(prompt, GREEDY, tag="bad"))
    (refused,) = engine.collect(5)
    assert (refused.ticket, refused.tag, refused.finish_reason) == (ticket, "bad", "invalid_input")


def test_nothing_to_do(engine: Engine, build_model: Any) -> None:
    assert _one(engine, "hello", GenerateOptions(max_new_tokens=0)).finish_reason == "length"
    assert _one(engine, []).prompt_tokens == 1  # BOS
    assert list(engine.generate([])) == []
    assert [score.tokens for score in engine.score(["", "a"])] == [1, 2]  # EOS counts
    with load_engine(build_model(bos=None, eos=None, vocab_size=256), replicas=1) as bare:
        done = _one(bare, "")
        assert done.finish_reason == "invalid_input"
        assert "empty" in done.error
        assert [score.tokens for score in bare.score(["", "a", "ab"])] == [0, 0, 1]
    with load_engine(build_model(), replicas=1) as small, pytest.raises(DataError, match="outside the vocabulary"):
        list(small.score(["z"]))


def test_end_of_text_token(engine: Engine, build_model: Any) -> None:
    text = _one(engine, [9, 9]).token_ids
    eos = text[4]
    with load_engine(build_model("int8", vocab_size=256, eos=eos), replicas=1) as other:
        stopped = _one(other, [9, 9], GREEDY.model_copy(update={"ignore_eos": False}))
        assert stopped.finish_reason == "stop"
        assert stopped.token_ids == text[: text.index(eos)]
        assert _one(other, [9, 9]).token_ids == text


def test_stop_strings_across_tokens(engine: Engine) -> None:
    options = GREEDY.model_copy(update={"max_new_tokens": 30})
    plain = _one(engine, [7], options)
    raw = bytes(t for t in plain.token_ids)
    ascii_runs = [(i, raw[i : i + 2].decode("ascii")) for i in range(3, 25) if raw[i : i + 2].isascii()]
    assert ascii_runs, "the model must write two ASCII bytes in a row for this test"
    _, stop = ascii_runs[0]
    first = raw.index(stop.encode())
    options = options.model_copy(update={"stop": ("never there", stop)})
    stopped = _one(engine, [7], options)
    assert stopped.finish_reason == "stop"
    assert stopped.text == raw[:first].decode(errors="replace")
    assert stopped.token_ids == plain.token_ids[: first + 2]
    assert "".join(engine.stream([7], options)) == stopped.text


def test_stream_equals_generate(engine: Engine) -> None:
    options = GenerateOptions(max_new_tokens=40, temperature=1.2, seed=3, stop=("zz",))
    for sample in range(5):
        assert "".join(engine.stream("a", options, sample=sample)) == _one(engine, "a", options, sample=sample).text


def test_abandoned_stream_frees_its_slot(engine: Engine) -> None:
    for _ in range(8):  # twice the slots
        next(iter(engine.stream("x", GREEDY.model_copy(update={"max_new_tokens": 40}))))
    assert _one(engine, "x").finish_reason == "length"


def test_score_equals_generated_log_probs(engine: Engine) -> None:
    made = _one(engine, [11, 12, 13], log_probs=True)
    scored = engine.score_tokens([11, 12, 13, *made.token_ids])
    assert np.array_equal(scored[2:], made.log_probs)
    logits = engine.logits([11, 12, 13, *made.token_ids]).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    expected = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert np.allclose(expected[2:-1][range(10), made.token_ids], made.log_probs, atol=1e-5)


def test_log_probs_are_the_model_s_whatever_the_penalty_and_one_for_each_token(build_model: Any) -> None:
    options = GREEDY.model_copy(update={"repetition_penalty": 1.7, "ignore_eos": False})
    with load_engine(build_model("int8", vocab_size=256), replicas=1) as engine:
        made = _one(engine, [11, 12, 13], options, log_probs=True)
        assert made.token_ids != _one(engine, [11, 12, 13]).token_ids
        assert np.array_equal(engine.score_tokens([11, 12, 13, *made.token_ids])[2:], made.log_probs)
    eos = next(token for token in made.token_ids if token != made.token_ids[0])
    with load_engine(build_model("int8", vocab_size=256, eos=eos), replicas=1) as ending:
        short = _one(ending, [11, 12, 13], options, log_probs=True)
    assert short.finish_reason == "stop"
    assert np.array_equal(short.log_probs, made.log_probs[: len(short.token_ids)])
    assert len(short.token_ids) == made.token_ids.index(eos)


def test_score_windows(engine: Engine) -> None:
    text = "abc" * 50
    (score,) = engine.score([text])
    ids = [1, *text.encode(), 2]
    assert (score.tokens, score.bytes) == (151, 150)
    parts = [engine.score_tokens(ids[at : at + CONTEXT + 1]) for at in range(0, 151, CONTEXT)]
    assert math.isclose(score.nats, -float(np.concatenate(parts).sum()), rel_tol=1e-6)
    assert [s.tokens for s in engine.score(["ab", text, "", text])] == [3, 151, 1, 151]


def test_cancel(build_model: Any) -> None:
    long = GREEDY.model_copy(update={"max_new_tokens": 3000})
    with load_engine(build_model("int8", context_length=4096), replicas=1, max_batch=2) as engine:
        tickets = [engine.submit(Request([5, i], long, tag=i)) for i in range(6)]
        time.sleep(0.02)
        for ticket in [tickets[0], tickets[5], tickets[0], 999, 2**63, -(2**63), 2**70]:
            engine.cancel(ticket)
        cancelled: dict[object, str] = {}
        deadline = time.monotonic() + 10
        while len(cancelled) < 2 and time.monotonic() < deadline:
            cancelled |= {done.tag: done.finish_reason for done in engine.collect(0.1)}
        assert cancelled == {0: "cancelled", 5: "cancelled"}
        for ticket in tickets:
            engine.cancel(ticket)
        while len(cancelled) < 6 and time.monotonic() < deadline:
            cancelled |= {done.tag: done.finish_reason for done in engine.collect(0.1)}
        assert set(cancelled.values()) == {"cancelled"}


def test_slots_never_wait_on_the_longest(build_model: Any) -> None:
    with load_engine(build_model("int8", context_length=4096), replicas=1, max_batch=2) as engine:
        requests = [Request([5], GREEDY.model_copy(update={"max_new_tokens": 2000}), tag="long")]
        requests += [Request([6 + i], GREEDY, tag=i) for i in range(20)]
        tags = [completion.tag for completion in engine.generate(requests, ordered=False)]
    assert tags == [*range(20), "long"]


def test_lazy_and_bounded(engine: Engine) -> None:
    pulled = 0

    def prompts() -> Any:
        nonlocal pulled
        for i in range(10_000):
            pulled += 1
            yield [3 + i % 90]

    results = engine.generate(prompts(), GREEDY)
    for _ in range(3):
        next(results)
    assert pulled < 200
    results.close()  # type: ignore[attr-defined]


def test_writing_from_token_ids_imports_no_numpy(build_model: Any) -> None:
    """They are 13 MB of peak memory and 0.1 s of every start."""
    script = """if True:
        import sys
        from tinylm.engine import GenerateOptions, load_engine
        with load_engine(sys.argv[1], replicas=1) as engine:
            (done,) = engine.generate([[5, 6]], GenerateOptions(max_new_tokens=3, ignore_eos=True))
        assert done.output_tokens == len(done.token_times_ns) == 3
        sys.exit(str({"numpy", "rich", "torch"} & set(sys.modules) or ""))
    """
    model = str(build_model("int8", vocab_size=256))
    run = subprocess.run([sys.executable, "-c", script, model], capture_output=True, text=True, check=False)
    assert run.stderr.strip() == ""


def test_times_are_in_order(engine: Engine) -> None:
    before = time.monotonic_ns()
    done = _one(engine, [4, 5, 6])
    times = [before, done.submitted_ns, done.started_ns, done.first_token_ns, *done.token_times_ns, done.finished_ns]
    assert times == sorted(times)
    assert done.finished_ns <= time.monotonic_ns()
    assert len(done.token_times_ns) == done.output_tokens


def test_slots_grow_with_threads_and_weights(build_model: Any) -> None:
    def slots(path: Any, **setup: int) -> int:
        with load_engine(path, replicas=1, **setup) as engine:
            return engine.info.max_batch

    small, large = build_model("int8"), build_model("f32", vocab_size=50_000, d_model=128)
    assert (slots(small), slots(small, threads_per_replica=2), slots(small, max_batch=5)) == (6, 12, 5)
    assert slots(large) == 12  # 25.6 MB of embeddings alone


def test_refusals_are_named(tmp_path: Any, build_model: Any) -> None:
    path = build_model("int8")
    with pytest.raises(EngineError, match="avx99"):
        load_engine(path, isa="avx99")
    with pytest.raises(EngineError, match="max_batch is 0"):
        load_engine(path, max_batch=0)
    with pytest.raises(EngineError, match="replicas is -1"):
        load_engine(path, replicas=-1)
    with pytest.raises(EngineError, match="threads_per_replica is 4611686018427387904"):
        load_engine(path, threads_per_replica=1 << 62)
    with pytest.raises(DataError, match="No such file"):
        load_engine(tmp_path / "absent")
    with pytest.raises(DataError, match="directory"):
        load_engine(tmp_path)
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    with pytest.raises(FormatError, match="junk"):
        load_engine(tmp_path / "junk")
    engine = load_engine(path)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.submit(Request([1]))
