"""What cannot be done is refused by name: for one request alone, for a closed engine, and across threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tinylm.config import GenerateOptions
from tinylm.engine import Engine, Request, load_engine
from tinylm.errors import ConfigError, DataError, EngineError

GREEDY = GenerateOptions(max_new_tokens=10, temperature=0, ignore_eos=True)


class Hooked:
    """A native engine that calls back before or after one of its methods."""

    def __init__(self, native: Any, method: str, before: Callable[[], object], after: Callable[[], object]) -> None:
        self._native, self._method, self._before, self._after = native, method, before, after

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._native, name)

        def call(*args: Any, **more: Any) -> Any:
            self._before()
            result = getattr(self._native, name)(*args, **more)
            self._after()
            return result

        return call


def _hook(engine: Engine, method: str, *, before: Any = bool, after: Any = bool) -> None:
    engine._native = Hooked(engine._native, method, before, after)  # type: ignore[assignment]


@pytest.fixture
def engine(build_model: Any) -> Any:
    with load_engine(build_model("int8", vocab_size=256), replicas=1, max_batch=4) as engine:
        yield engine


@pytest.mark.parametrize("field", ["max_new_tokens", "top_k"])
def test_integers_end_where_the_engine_s_do(field: str, engine: Engine) -> None:
    most = GREEDY.model_validate(GREEDY.model_dump() | {"max_new_tokens": 50, "temperature": 1, field: 2**63 - 1})
    (done,) = engine.generate([[5, 6]], most)
    assert done.finish_reason == "context_full"
    for value in (2**63, 2**64):
        with pytest.raises(ValidationError, match=field):
            GenerateOptions.model_validate({field: value})


@pytest.mark.parametrize(
    "sample", [-1, 2**64, 1.5, None, "1", 1 << 20_000], ids=["negative", "65 bits", "float", "none", "text", "huge"]
)
def test_bad_samples_fail_alone(engine: Engine, sample: Any) -> None:
    good, bad = Request([5, 6], GREEDY, 2**64 - 1, "good"), Request([5, 6], GREEDY, sample, "bad")
    done = list(engine.generate([good, bad, good]))
    assert [completion.finish_reason for completion in done] == ["length", "invalid_input", "length"]
    assert done[1].error is not None
    assert done[1].error.startswith("sample: found ")
    assert "2**64 - 1" in done[1].error
    with pytest.raises(DataError, match="sample"):
        list(engine.stream([5, 6], GREEDY, sample=sample))
    ticket = engine.submit(bad)
    (refused,) = engine.collect(5)
    assert (refused.ticket, refused.tag, refused.finish_reason) == (ticket, "bad", "invalid_input")


@pytest.mark.parametrize("field", ["replicas", "threads_per_replica", "max_batch"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0, "0"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**63), "-9.*"),
        (2**70, "1180591.*"),
        (1.5, "1.5"),
        (1 << 20_000, "20001 bits"),
    ],
    ids=["none", "63 bits", "64 bits", "71 bits", "float", "huge"],
)
def test_an_impossible_setup_is_named(field: str, value: Any, found: str, build_model: Any) -> None:
    with pytest.raises(EngineError, match=f"^engine: {field} is {found}, expected "):
        load_engine(build_model("int8"), **{field: value})


def test_arrays_are_prompts(engine: Engine) -> None:
    listed, made = engine.generate([[5, 6, 7], np.array([5, 6, 7])], GREEDY)  # type: ignore[list-item]
    assert made.token_ids == listed.token_ids


@pytest.mark.parametrize("token", [-5, 2**31, 2**40, -(2**40)])
def test_wrong_token_ids_are_named(engine: Engine, token: int) -> None:
    (done,) = engine.generate([[5, token]], GREEDY)
    assert f"token {token} is outside the vocabulary" in str(done.error)
    with pytest.raises(DataError, match=f"token {token} "):
        engine.score_tokens([5, token])
    with pytest.raises(DataError, match=f"token {token} "):
        engine.logits([5, token])


def test_waiting_for_no_number_is_refused(engine: Engine) -> None:
    ticket = engine.submit(Request([-1], GREEDY, sample=-1))  # an answer to return at once, were nan taken
    with pytest.raises(ConfigError, match="timeout_s: found nan"):
        engine.collect(float("nan"))
    assert [done.ticket for done in engine.collect()] == [ticket]


def test_a_collector_sees_the_tag_of_a_text_that_is_quicker_than_its_submission(engine: Engine) -> None:
    _hook(engine, "submit", after=lambda: time.sleep(0.1))
    tags: list[object] = []
    collector = threading.Thread(target=lambda: tags.extend(done.tag for done in engine.collect(10)))
    collector.start()
    engine.submit(Request([5, 6], GREEDY.model_copy(update={"max_new_tokens": 0}), tag="mine"))
    collector.join(10)
    assert tags == ["mine"]
    assert not engine._tags


USES: dict[str, Callable[[Engine], object]] = {
    "info": lambda engine: engine.info,
    "stream": lambda engine: list(engine.stream("a", GREEDY)),
    "score": lambda engine: list(engine.score(["abc"])),
    "score_tokens": lambda engine: engine.score_tokens([5, 6]),
    "logits": lambda engine: engine.logits([5, 6]),
}


@pytest.mark.parametrize("use", ["info", "score", "score_tokens"])
def test_a_closed_engine_says_so(engine: Engine, use: str) -> None:
    engine.close()
    with pytest.raises(EngineError, match="engine: the engine is closed"):
        USES[use](engine)


@pytest.mark.parametrize(("use", "at"), [("stream", "collect"), ("logits", "submit"), ("logits", "collect")])
def test_an_engine_closed_meanwhile_says_so(engine: Engine, use: str, at: str) -> None:
    _hook(engine, at, before=engine.close)
    with pytest.raises(EngineError, match="engine: the engine is closed"):
        USES[use](engine)


@pytest.mark.parametrize("use", ["generate", "close", "nothing"])
def test_a_forked_child_does_not_wait_for_threads_it_does_not_have(use: str, build_model: Any) -> None:
    code = (
        "import os, sys\n"
        "from tinylm.engine import GenerateOptions, load_engine\n"
        "engine = load_engine(sys.argv[1], replicas=1)\n"
        "if child := os.fork():\n"
        "    ended = os.waitpid(child, 0)[1]\n"
        "    assert len(list(engine.generate([[5]], GenerateOptions(max_new_tokens=1)))) == 1\n"
        "    sys.exit(os.waitstatus_to_exitcode(ended))\n"
        "if sys.argv[2] == 'generate':\n"
        "    try:\n"
        "        list(engine.generate([[5]]))\n"
        "    except Exception as error:\n"
        "        sys.exit(0 if 'load one in this process' in str(error) else 3)\n"
        "if sys.argv[2] == 'close':\n"
        "    engine.close()\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(build_model("int8", vocab_size=256)), use]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
