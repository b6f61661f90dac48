"""Rounds over other engines: what a stopped comparison leaves, what an engine that cannot run becomes."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tinylm.bench.limits import measure_limits
from tinylm.bench.models import macs_of_work
from tinylm.bench.peers import run as peers
from tinylm.bench.peers.engines import Engine, convert
from tinylm.bench.store import read_run
from tinylm.cli import app
from tinylm.errors import StageError
from tinylm.presets import preset
from tinylm.progress import NullProgress

PRESET = "llama-8m"
WORKLOADS = peers.WORKLOADS[:1]
ANSWER = {"tokens": 200, "seconds": 0.5, "load_s": 0.1, "start_s": 0.4, "peak_rss_bytes": 1 << 20}


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[Any]], None]:
    """Return what makes the next cells answer, or raise, what an iterator says; no engine is started."""

    def answer_with(answers: Iterator[Any]) -> None:
        def run(*_: object) -> Any:
            answer = next(answers)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr(peers, "_measure", run)
        monkeypatch.setattr(peers, "_prepare", lambda *_: {("llama.cpp", PRESET): "not installed"})

    return answer_with


def compare(folder: Path, rounds: int, **options: Any) -> dict[str, Any]:
    return peers.run_peers(
        folder / "models",
        folder / "env",
        folder / "run",
        NullProgress(),
        presets=[PRESET],
        rounds=rounds,
        workloads=WORKLOADS,
        **options,
    )


def test_a_stopped_comparison_leaves_its_whole_rounds(measure: Callable[..., None], tmp_path: Path) -> None:
    of_a_round = len(peers._plan([PRESET], WORKLOADS, 0))
    measured = of_a_round - 1  # the missing engine is not started
    measure(iter([ANSWER] * (measured + 1) + [KeyboardInterrupt()]))
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, rounds=2)
    cells = read_run(tmp_path / "run").cells
    assert len(cells) == of_a_round
    assert {cell["repeat"] for cell in cells} == {0}


def test_the_command_says_what_a_stopped_comparison_leaves(
    measure: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tinylm.bench.limits.measure_limits", lambda *_: None)
    measured = [case for case in peers._plan([PRESET], peers.WORKLOADS, 0) if case.engine.name != "llama.cpp"]
    for whole, said in ((0, "no round was whole"), (1, "has its whole rounds, and the same command goes on")):
        measure(iter([ANSWER] * len(measured) * whole + [KeyboardInterrupt()]))
        reports = tmp_path / str(whole)
        done = CliRunner().invoke(app, ["bench", "peers", "--preset", PRESET, "--reports", str(reports)])
        assert done.exit_code == 130
        assert said in done.stderr
        assert len(list(reports.glob("*-peers"))) == len(list(reports.glob("*-peers/peers.html"))) == whole
    next(reports.glob("*-peers")).rename(reports / "20260101T000000Z-peers")  # folders have names by the second
    for more, said in ((), True), (("--anew",), False):
        measure(iter([KeyboardInterrupt()]))
        done = CliRunner().invoke(app, ["bench", "peers", "--preset", PRESET, "--reports", str(reports), *more])
        assert ("goes on with round 2 of 5" in done.stdout) == said
        assert ("no round was whole" in done.stderr) != said


def test_a_stopped_comparison_goes_on(measure: Callable[..., None], tmp_path: Path) -> None:
    """Same rounds, orders and cells as one that was never stopped; what a stop broke off is measured again."""
    limits = measure_limits(lambda *_: 1e12, lambda *_: 1e11)
    of_a_round = len(peers._plan([PRESET], WORKLOADS, 0)) - 1
    measure(iter(lambda: ANSWER, None))
    compare(tmp_path / "whole", rounds=3, measure_limits=lambda: limits)
    measure(iter([ANSWER] * (of_a_round + 2) + [KeyboardInterrupt()]))
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "stopped", rounds=3, measure_limits=lambda: limits)
    measure(iter([ANSWER] * 2 * of_a_round))
    told = compare(tmp_path / "stopped", rounds=3, measure_limits=lambda: limits)
    whole, stopped = (read_run(tmp_path / name / "run") for name in ("whole", "stopped"))
    assert told["cells"] == len(stopped.cells) == 3 * (of_a_round + 1)
    drop = {"run_id": None}
    assert [row | drop for row in stopped.cells] == [row | drop for row in whole.cells]


def test_only_its_own_settings_machine_and_engine_go_on(
    measure: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def find(rounds: int = 2, name: str = PRESET) -> Any:
        return peers.stopped_run(tmp_path, presets=[name], rounds=rounds)

    measure(iter([ANSWER] * len(peers._plan([PRESET], WORKLOADS, 0)) + [KeyboardInterrupt()]))
    (tmp_path / "20260102T000000Z-peers").mkdir()  # of one that was stopped in its first round
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, rounds=2)
    (tmp_path / "run").rename(tmp_path / "20260101T000000Z-peers")
    assert peers.rounds_done(find()) == 1
    assert find(rounds=3) is None
    assert find(name="llama-20m") is None
    with monkeypatch.context() as other:
        other.setattr(peers, "machine_facts", lambda: {"cpu": "another"})
        assert find() is None
    measure(iter(lambda: ANSWER, None))
    (tmp_path / "20260101T000000Z-peers").rename(tmp_path / "run")
    compare(tmp_path, rounds=2)
    (tmp_path / "run").rename(tmp_path / "20260101T000000Z-peers")
    assert find() is None  # whole


def test_an_engine_that_is_missing_is_a_row_with_the_reason(measure: Callable[..., None], tmp_path: Path) -> None:
    measure(iter(lambda: ANSWER, None))
    told = compare(tmp_path, rounds=1)
    assert told["missing"] == {f"llama.cpp {PRESET}": "not installed"}
    cells = read_run(tmp_path / "run").cells
    assert [cell["error"] for cell in cells if cell["backend"] == "llama.cpp"] == ["not installed"]
    assert {cell["tokens_per_s"] for cell in cells if cell["status"] == "ok"} == {400.0}


def test_engines_get_whole_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    paths: list[Path] = []
    monkeypatch.setattr(peers, "_prepare", lambda work, env, *_: paths.extend((work, env)) or {})
    monkeypatch.setattr(peers, "_measure", lambda _, work, env: paths.extend((work, env)) or ANSWER)
    compare(Path(), rounds=1)
    assert set(paths) == {tmp_path / "models", tmp_path / "env"}


def test_half_a_conversion_is_not_a_model(tmp_path: Path) -> None:
    """A converter that fails, or is killed, leaves files; the next run converts anew."""
    engine = Engine("fake", "Fake", "run_fake.py", "fake-int8", ("fake", "--out", "fake-int8"))
    converter = tmp_path / "bin" / "fake"
    converter.parent.mkdir()
    for ending, problem in (("exit 3", "conversion ended with code 3: no message"), ("touch $2/model", None)):
        converter.write_text(f"#!/bin/sh\nmkdir $2 && {ending}\n")
        converter.chmod(0o755)
        assert convert(engine, tmp_path, tmp_path / "bin") == problem
        assert (tmp_path / "fake-int8").exists() == (problem is None)
    assert (tmp_path / "fake-int8" / "model").is_file()


def test_no_figure_without_our_own_engine(measure: Callable[..., None], tmp_path: Path) -> None:
    measure(iter(lambda: {"error": "no such file"}, None))
    with pytest.raises(StageError, match="no such file"):
        compare(tmp_path, rounds=1)


def test_figures_read_as_shares_of_the_highest_limits(measure: Callable[..., None], tmp_path: Path) -> None:
    """Arithmetic is the limit here: 400 tokens/s of what the quicker of two rounds' measurements allows."""
    measure(iter(lambda: ANSWER, None))
    measured = (measure_limits(lambda *_, peak=peak: peak, lambda *_: 1e15) for peak in (2e12, 1e12))
    compare(
        tmp_path,
        rounds=2,
        measure_limits=lambda: next(measured),
    )
    run = read_run(tmp_path / "run")
    assert set(run.facts["limits"]["macs_per_s"]["1"].values()) == {2e12}
    config = preset(PRESET)
    macs = macs_of_work(config, positions=8 + 199, logits=200) / 200
    for cell in run.cells:
        if cell["status"] == "ok":
            assert cell["limit_tokens_per_s"] == pytest.approx(2e12 / macs)
            assert cell["limit_share"] == pytest.approx(400 * macs / 2e12)
            assert cell["gmac_per_s"] == pytest.approx(400 * macs / 1e9)
        else:
            assert cell["limit_share"] is None


@pytest.mark.parametrize("bulk", [True, False])
def test_one_stream_is_one_prompt_after_another(
    bulk: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warm-up prompts are the measured ones backwards: none is found in a cache, and none is measured."""
    monkeypatch.syspath_prepend(str(Path(peers.__file__).parent / "adapters"))
    harness = importlib.import_module("harness")
    job = {"prompts": [[1, 2], [3, 4], [5, 6]], "new_tokens": 50, "warmup_prompts": 2, "bulk": bulk}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(job)))
    calls: list[tuple[list[list[int]], int]] = []

    def generate(prompts: list[list[int]], new_tokens: int) -> int:
        calls.append((prompts, new_tokens))
        return len(prompts) * new_tokens

    harness.serve(lambda _: generate)
    first = ([[2, 1]], 1)
    at_once = [([[2, 1], [4, 3]], 16), ([[1, 2], [3, 4], [5, 6]], 50)]
    in_turn = [([[2, 1]], 16), ([[4, 3]], 16), ([[1, 2]], 50), ([[3, 4]], 50), ([[5, 6]], 50)]
    assert calls == [first, *(at_once if bulk else in_turn)]
    assert json.loads(capsys.readouterr().out)["tokens"] == 150
