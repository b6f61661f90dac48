"""Rounds over other engines: what a stopped comparison leaves, what an engine that cannot run becomes."""

from __future__ import annotations

import importlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tinylm.bench.limits import measure_limits
from tinylm.bench.models import macs_of_work
from tinylm.bench.peers import resume
from tinylm.bench.peers import run as peers
from tinylm.bench.peers.engines import Engine, convert
from tinylm.bench.store import read_run
from tinylm.cli import app
from tinylm.errors import DataError, StageError
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


def make_environment(folder: Path) -> Path:
    """Return a virtual environment as far as a comparison looks at it before an engine is started."""
    python = folder / "env" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()
    return folder / "env"


def compare(folder: Path, rounds: int, **options: Any) -> dict[str, Any]:
    return peers.run_peers(
        folder / "models",
        make_environment(folder),
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
    limits = measure_limits(lambda *_: 1e12, lambda *_: 1e11)
    monkeypatch.setattr("tinylm.bench.limits.measure_limits", lambda *_: limits)
    measured = [case for case in peers._plan([PRESET], peers.WORKLOADS, 0) if case.engine.name != "llama.cpp"]

    def stopped(whole: int, *more: str) -> tuple[str, str]:
        measure(iter([ANSWER] * len(measured) * whole + [KeyboardInterrupt()]))
        folders = [
            "--reports",
            str(tmp_path),
            "--work",
            str(tmp_path / "models"),
            "--env",
            str(make_environment(tmp_path)),
        ]
        done = CliRunner().invoke(app, ["bench", "peers", "--preset", PRESET, *folders, *more])
        assert done.exit_code == 130
        return done.stdout, done.stderr

    assert "no round was whole" in stopped(0)[1]
    assert not list(tmp_path.glob("*-peers"))
    assert "has its whole rounds; the same command goes on" in stopped(1)[1]
    first = next(tmp_path.glob("*-peers")).rename(tmp_path / "20260101T000000Z-peers")  # names are by the second
    out, told = stopped(1)
    assert f"goes on with round 2 of 5 of {first}" in out
    before = (first / "cells.parquet").read_bytes()
    assert "2 interleaved rounds of the 5 asked for" in (first / "peers.html").read_text(encoding="utf-8")
    out, told = stopped(1, "--anew")
    assert "goes on with" not in out
    assert "without --anew, the same command goes on" in told
    assert (first / "cells.parquet").read_bytes() == before
    assert len(list(tmp_path.glob("*-peers/peers.html"))) == 2


def test_a_stopped_comparison_goes_on(measure: Callable[..., None], tmp_path: Path) -> None:
    """Same rounds, orders, cells and limits as one that was never stopped; what a stop broke off is measured again."""
    of_a_round = len(peers._plan([PRESET], WORKLOADS, 0)) - 1

    def limits(*peaks: float) -> Callable[[], Any]:
        measured = iter([measure_limits(lambda *_, peak=peak: peak, lambda *_: 1e15) for peak in peaks])
        return lambda: next(measured)

    measure(iter(lambda: ANSWER, None))
    compare(tmp_path / "whole", rounds=3, measure_limits=limits(2e12, 1e12, 1e12))
    measure(iter([ANSWER] * (of_a_round + 2) + [KeyboardInterrupt()]))
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "stopped", rounds=3, measure_limits=limits(2e12, 9e12))
    measure(iter([ANSWER] * 2 * of_a_round))
    told = compare(tmp_path / "stopped", rounds=3, measure_limits=limits(1e12, 1e12))
    whole, stopped = (read_run(tmp_path / name / "run") for name in ("whole", "stopped"))
    assert told["cells"] == len(stopped.cells) == 3 * (of_a_round + 1)
    drop = {"run_id": None, "started_at": None}
    assert [row | drop for row in stopped.cells] == [row | drop for row in whole.cells]
    assert all(row["started_at"] for row in stopped.cells)


@pytest.fixture
def left(measure: Callable[..., None], tmp_path: Path) -> Callable[..., Any]:
    """Return what looks for a comparison to go on with; there is one of two rounds, stopped after the first."""
    measure(iter([ANSWER] * len(peers._plan([PRESET], WORKLOADS, 0)) + [KeyboardInterrupt()]))
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, rounds=2)
    (tmp_path / "run").rename(tmp_path / "20260101T000000Z-peers")

    def find(preset: str = PRESET, rounds: int = 2, seed: int = 0, workloads: Sequence[Any] = WORKLOADS) -> Any:
        return resume.stopped_run(tmp_path, resume.identity(tmp_path / "env", [preset], rounds, seed, workloads))

    assert find().facts["rounds_done"] == 1
    return find


def test_only_a_comparison_of_the_same_kind_goes_on(
    left: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert left(rounds=3) is None
    assert left(preset="llama-20m") is None
    assert left(seed=1) is None
    assert left(workloads=peers.WORKLOADS) is None
    for place, other in (
        ("tinylm.bench.peers.resume.machine_key", lambda: "another"),
        ("tinylm.__version__", "another"),
        ("tinylm.bench.peers.resume._PACKAGE", tmp_path),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(place, other)
            assert left() is None
    (tmp_path / "20260101T000000Z-peers").rename(tmp_path / "run")
    with pytest.raises(StageError, match="other settings"):
        compare(tmp_path, rounds=3)
    (tmp_path / "run").rename(tmp_path / "20260101T000000Z-peers")
    assert left()
    (tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "another-1.0.dist-info").mkdir(parents=True)
    assert left() is None


def test_a_whole_comparison_does_not_go_on(
    left: Callable[..., Any], measure: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "20260101T000000Z-peers").rename(tmp_path / "run")
    measure(iter(lambda: ANSWER, None))
    compare(tmp_path, rounds=2)
    (tmp_path / "run").rename(tmp_path / "20260101T000000Z-peers")
    assert left() is None


def test_folders_of_others_are_passed_over(left: Callable[..., Any], tmp_path: Path) -> None:
    ours = tmp_path / "20260101T000000Z-peers"
    (tmp_path / "20260102T000000Z-peers").mkdir()
    table = (ours / "cells.parquet").read_bytes()
    facts = (ours / "run.json").read_bytes()
    damaged = [b"[]", b"{", facts.replace(b'"rounds_done": 1', b'"rounds_done": "one"')]
    others = {"run.json": damaged, "cells.parquet": [b"x", table[:-9], table[:4] + bytes(600) + table[604:]]}
    for file, contents in others.items():
        for number, content in enumerate(contents):
            folder = tmp_path / f"2026010{number + 3}T{len(file):06}Z-peers"
            shutil.copytree(ours, folder)
            (folder / file).write_bytes(content)
    assert left().folder == ours


@pytest.mark.usefixtures("left")
def test_a_damaged_comparison_is_told(tmp_path: Path) -> None:
    (tmp_path / "20260101T000000Z-peers").rename(tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    for field, value in (("machine", None), ("limits", "x"), ("rounds_done", "one")):
        (tmp_path / "run" / "run.json").write_text(json.dumps(facts | {field: value}))
        with pytest.raises(DataError, match=f"run.json: {field}: .*; remove the folder"):
            compare(tmp_path, rounds=2)


def test_a_stop_between_tables_and_facts_costs_the_round(measure: Callable[..., None], tmp_path: Path) -> None:
    """The table then holds a round whose limits are lost; it is measured again."""
    measure(iter(lambda: ANSWER, None))
    compare(tmp_path / "whole", rounds=2)
    of_a_round = len(peers._plan([PRESET], WORKLOADS, 0)) - 1
    measure(iter([ANSWER] * of_a_round + [KeyboardInterrupt()]))
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "stopped", rounds=2)
    shutil.copy(tmp_path / "whole" / "run" / "cells.parquet", tmp_path / "stopped" / "run")
    measure(iter([ANSWER] * of_a_round))
    assert compare(tmp_path / "stopped", rounds=2)["cells"] == 2 * (of_a_round + 1)
    assert len(read_run(tmp_path / "stopped" / "run").cells) == 2 * (of_a_round + 1)


def test_a_round_of_two_programs_is_not_kept(
    measure: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answers() -> Iterator[Any]:
        yield from [ANSWER] * (len(peers._plan([PRESET], WORKLOADS, 0)) + 2)
        monkeypatch.setattr("tinylm.__version__", "another")
        yield from iter(lambda: ANSWER, None)

    measure(answers())
    with pytest.raises(StageError, match="changed during a round"):
        compare(tmp_path, rounds=2)
    assert {cell["repeat"] for cell in read_run(tmp_path / "run").cells} == {0}


def test_one_comparison_runs_at_a_time(measure: Callable[..., None], tmp_path: Path) -> None:
    measure(iter(lambda: ANSWER, None))
    (tmp_path / "run").mkdir()
    with resume.one_at_a_time(tmp_path / "models"), pytest.raises(StageError, match="another comparison is running"):
        compare(tmp_path, rounds=1)
    assert (tmp_path / "run").exists()
    with resume.one_at_a_time(tmp_path / "other models"):
        compare(tmp_path, rounds=1)


def test_an_engine_that_is_missing_is_a_row_with_the_reason(measure: Callable[..., None], tmp_path: Path) -> None:
    measure(iter(lambda: ANSWER, None))
    told = compare(tmp_path, rounds=1)
    assert told["missing"] == {f"llama.cpp {PRESET}": "not installed"}
    cells = read_run(tmp_path / "run").cells
    assert [cell["error"] for cell in cells if cell["backend"] == "llama.cpp"] == ["not installed"]
    assert {cell["tokens_per_s"] for cell in cells if cell["status"] == "ok"} == {400.0}


@pytest.mark.parametrize(
    ("preset", "environment", "told"), [(PRESET, "nodir", "env: no .*nodir.*make bench-peers"), ("nope", "env", "nope")]
)
def test_settings_are_checked_before_any_conversion(
    preset: str, environment: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_environment(tmp_path)
    monkeypatch.setattr(peers, "_prepare", lambda *_: pytest.fail("converts"))
    folders = ["--reports", tmp_path / "reports", "--work", tmp_path / "models", "--env", tmp_path / environment]
    wanted = ["bench", "peers", "--preset", PRESET, "--preset", preset, *map(str, folders)]
    done = CliRunner().invoke(app, wanted)
    assert done.exit_code == 2
    assert re.search(told, done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


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


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    engine = Engine("fake", "Fake", "run_fake.py", "fake-int8", ("fake",))
    assert convert(engine, tmp_path, tmp_path) == (
        f"conversion: no {tmp_path / 'fake'}; the engine is not installed in the peers' environment"
    )


def test_no_figure_without_our_own_engine(
    measure: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(case: Any, *_: object) -> dict[str, Any]:
        return {"error": "no such file"} if case.engine.name == "tinylm" else ANSWER

    measure(iter(()))
    monkeypatch.setattr(peers, "_measure", run)
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
    parents: list[tuple[int, int]] = []  # not in truth: this process is pytest's
    monkeypatch.setattr(harness, "end_with_parent", lambda pid: parents.append((pid, len(calls))))
    job = {"prompts": [[1, 2], [3, 4], [5, 6]], "new_tokens": 50, "warmup_prompts": 2, "bulk": bulk, "parent_pid": 4711}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(job)))
    calls: list[tuple[list[list[int]], int]] = []

    def generate(prompts: list[list[int]], new_tokens: int) -> int:
        calls.append((prompts, new_tokens))
        return len(prompts) * new_tokens

    harness.serve(lambda _: generate)
    first = ([[2, 1]], 1)
    at_once = [([[2, 1], [4, 3]], 16), ([[1, 2], [3, 4], [5, 6]], 50)]
    in_turn = [([[2, 1]], 16), ([[4, 3]], 16), ([[1, 2]], 50), ([[3, 4]], 50), ([[5, 6]], 50)]
    assert parents == [(4711, 1)]
    assert calls == [first, *(at_once if bulk else in_turn)]
    assert json.loads(capsys.readouterr().out)["tokens"] == 150
