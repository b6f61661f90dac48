"""An argument of the wrong type is told in the project's words; numbers of NumPy are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinylm.config import GenerateOptions
from tinylm.engine import Engine, Request, load_engine
from tinylm.errors import ConfigError, DataError, EngineError, TinyLMError

GREEDY = GenerateOptions(max_new_tokens=4, temperature=0, ignore_eos=True)


@pytest.fixture(scope="module")
def engine(build_model: Any) -> Any:
    with load_engine(build_model("int8", vocab_size=256), replicas=1, max_batch=4) as engine:
        yield engine


@pytest.mark.parametrize("value", ["2", 2.0, True, b"2", [2], np.array([2, 3])], ids=repr)
@pytest.mark.parametrize("name", ["replicas", "threads_per_replica", "max_batch"])
def test_a_number_of_the_setup_is_an_integer(name: str, value: Any, build_model: Any) -> None:
    with pytest.raises(EngineError, match=f"^engine: {name} is .*, expected an integer"):
        load_engine(build_model("int8"), **{name: value})


@pytest.mark.parametrize("isa", [5, None, True, b"scalar", "", "scalar\0", "\ud800", ["scalar"]], ids=repr)
def test_an_instruction_set_is_a_name(isa: Any, build_model: Any) -> None:
    with pytest.raises(EngineError, match=r"^engine: isa is .*; this build and machine have auto, .*scalar"):
        load_engine(build_model("int8"), isa=isa)


@pytest.mark.parametrize("path", [5, None, True, ["model"], "\ud800", "{}\0.txt"], ids=repr)
def test_a_model_is_a_path(path: Any, build_model: Any) -> None:
    path = path.format(build_model("int8")) if isinstance(path, str) else path
    with pytest.raises(DataError, match=r"^model .*: is no path; expected"):
        load_engine(path)


def test_a_path_need_not_be_unicode(build_model: Any, tmp_path: Any) -> None:
    path = tmp_path / "\udcff.safetensors"
    path.write_bytes(build_model("int8").read_bytes())
    with load_engine(path, replicas=1) as engine:
        assert engine.info.precision == "int8"


def test_numbers_of_numpy_are_numbers(build_model: Any) -> None:
    setup: Any = {"replicas": np.int64(1), "threads_per_replica": np.int32(2), "max_batch": np.uint8(3)}
    with load_engine(build_model("int8", vocab_size=256), **setup) as engine:
        info = engine.info
        assert [type(value) for value in (info.replicas, info.threads_per_replica, info.max_batch)] == [int] * 3
        (done,) = engine.generate([Request([np.int64(5)], GREEDY, sample=np.uint8(7))])  # type: ignore[arg-type,list-item]
        (same,) = engine.generate([Request([5], GREEDY, sample=7)])
        assert done.token_ids == same.token_ids
        tokens: Any = np.array([5, 6, 7])
        assert np.array_equal(engine.score_tokens(tokens), engine.score_tokens([5, 6, 7]))
        assert engine.logits(token for token in [5, 6]).shape == (2, 256)  # type: ignore[arg-type]
        engine.cancel(np.int64(-(2**63)))  # type: ignore[arg-type]
        assert engine.collect(np.float32(0.0)) == []  # type: ignore[arg-type]


def test_options_take_numbers_of_numpy() -> None:
    given: Any = {
        "seed": np.uint64(3),
        "top_k": np.int32(5),
        "temperature": np.float32(0.5),
        "max_new_tokens": np.int64(1),
    }
    options = GenerateOptions(**given)
    assert options == GenerateOptions(seed=3, top_k=5, temperature=0.5, max_new_tokens=1)
    assert type(options.seed) is int


WRONG: dict[str, tuple[type[TinyLMError], str, Callable[[Any], object]]] = {
    "one text": (DataError, "prompts: found a single text; .*brackets", lambda engine: engine.generate("Once")),
    "bytes": (DataError, "prompts: found a single text", lambda engine: engine.generate(b"Once")),
    "no prompts": (DataError, "prompts: found NoneType; expected a list", lambda engine: engine.generate(None)),
    "a number": (DataError, "prompts: found int", lambda engine: engine.generate(5)),
    "a dict": (ConfigError, "options: found dict; expected Gen", lambda engine: list(engine.generate(["a"], {}))),
    "options": (ConfigError, "options: found dict", lambda engine: list(engine.stream("a", {"seed": 1}))),
    "none": (ConfigError, "options: found NoneType", lambda _: Request("a", None)),  # type: ignore[arg-type]
    "sample": (DataError, "sample: found True", lambda engine: list(engine.stream("a", sample=True))),
    "stream": (DataError, "prompt: found bytes; expected text", lambda engine: list(engine.stream(b"abc"))),
    "encode": (DataError, "prompt: found NoneType", lambda engine: engine.encode(None)),
    "a text to score": (DataError, "texts: found a single text", lambda engine: list(engine.score("abc"))),
    "texts": (DataError, "texts: found int", lambda engine: list(engine.score(5))),
    "ids to score": (DataError, "text: found list; expected text", lambda engine: list(engine.score([[5, 6]]))),
    "tokens": (DataError, "expected text or a flat list", lambda engine: engine.score_tokens(None)),
    "words": (DataError, "expected text or a flat list", lambda engine: engine.score_tokens("abc")),
    "logits": (DataError, "expected text or a flat list", lambda engine: engine.logits(5)),
    "submit": (ConfigError, r"request: found str; expected Request\(", lambda engine: engine.submit("Once")),
    "ticket": (ConfigError, "ticket: found '1'; expected the integer", lambda engine: engine.cancel("1")),
    "no ticket": (ConfigError, "ticket: found None", lambda engine: engine.cancel(None)),
    "timeout": (ConfigError, "timeout_s: found '1'; expected seconds", lambda engine: engine.collect("1")),
    "no timeout": (ConfigError, "timeout_s: found None", lambda engine: engine.collect(None)),
    "ages": (ConfigError, "timeout_s: found 20001 bits", lambda engine: engine.collect(1 << 20_000)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named(case: str, engine: Engine) -> None:
    kind, words, use = WRONG[case]
    with pytest.raises(kind, match=words):
        use(engine)
    assert [done.finish_reason for done in engine.generate([[5]], GREEDY)] == ["length"]
