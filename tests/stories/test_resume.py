"""Exactly once: whatever ends a job, the same call finishes it, with the bytes of an undisturbed run."""

from __future__ import annotations

import errno
import functools
import os
import pkgutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fake_engine import FakeEngine, FakeInfo
from kill_job import digests, kill_and_compare
from small_job import job_for

from tinylm.config import GenerateOptions
from tinylm.engine import Completion
from tinylm.errors import ConfigError, DataError, StageError
from tinylm.stories.generate import finish_job, generate_file, missing_shards, run_range, start_job
from tinylm.stories.plan import job_lock

OUTPUTS = ["shards", "stories.parquet", "stories.jsonl", "stories.csv", "stories.txt"]


@pytest.fixture
def expected(tmp_path: Path) -> Callable[..., dict[str, str]]:
    def digests_of(output: str, rows: int = 230) -> dict[str, str]:
        folder = tmp_path / "reference"
        folder.mkdir(exist_ok=True)
        generate_file(job_for(folder, output, rows), engine=FakeEngine())
        return digests(folder / "out")

    return digests_of


class Interrupted(FakeEngine):
    """Stops the job as Ctrl-C does, after some answers."""

    answers = 100

    def collect(self, timeout_s: float) -> list[Completion]:
        if self.answers < 0:
            self.answers = 10**9
            raise KeyboardInterrupt
        done = super().collect(timeout_s)
        self.answers -= len(done)
        return done


@pytest.mark.parametrize("output", OUTPUTS)
def test_interrupted_job_goes_on(output: str, tmp_path: Path, expected: Callable[..., dict[str, str]]) -> None:
    wanted, job = expected(output), job_for(tmp_path, output)
    with pytest.raises(KeyboardInterrupt):
        generate_file(job, engine=Interrupted())
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(name.startswith("part-") for name in left)
    assert not any(".tmp-" in name or name.endswith(".lock") for name in left)
    assert len([name for name in left if not name.startswith(("part-", "_job.json"))]) == 0
    engine = FakeEngine()
    summary = generate_file(job, engine=engine)
    assert 0 < summary.reused_rows == 230 - engine.submitted
    assert digests(tmp_path / "out") == wanted
    again = FakeEngine()
    assert generate_file(job, engine=again).reused_rows == 230
    assert again.submitted == 0
    assert digests(tmp_path / "out") == wanted


class Loser(FakeEngine):
    """Loses the answers that `collect` had in hand when Ctrl-C came; another call brings one of an older job."""

    calls = 0

    def collect(self, timeout_s: float) -> list[Completion]:
        self.calls += 1
        done = super().collect(timeout_s)
        if self.calls == 5:
            raise KeyboardInterrupt
        return [*done, replace(done[0], ticket=-7)] if done else []


def test_answers_lost_by_an_interruption_cost_no_time(tmp_path: Path, expected: Callable[..., dict[str, str]]) -> None:
    wanted, job, engine = expected("shards"), job_for(tmp_path), Loser(delay_s=0.001)
    started_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        generate_file(job, engine=engine)
    assert time.monotonic() - started_s < 2.5
    generate_file(job, engine=engine)
    assert digests(tmp_path / "out") == wanted


@pytest.mark.parametrize("output", ["shards", "stories.parquet", "stories.jsonl"])
@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.rename", "pathlib.Path.open", "write_table"])
def test_nth_failure_of_the_disk(
    output: str, call: str, tmp_path: Path, expected: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail the first, second, third … call until the job gets through: no half file is left, and it goes on."""
    wanted = expected(output, rows=50)
    target = "pyarrow.parquet.ParquetWriter.write_table" if call == "write_table" else call
    for nth in range(1, 60):
        home = tmp_path / str(nth)
        home.mkdir()
        job = job_for(home, output, rows=50)
        code = errno.ENOSPC if nth % 2 else errno.EIO
        with monkeypatch.context() as patch:
            patch.setattr(target, failing := FailNth(target, nth, code))
            try:
                generate_file(job, engine=FakeEngine())
            except StageError as error:
                assert "disk full" in str(error), error  # noqa: PT017
                assert "MB more" in str(error)  # noqa: PT017
            except (OSError, DataError):
                assert failing.fired
        assert not [path for path in home.rglob("*") if ".tmp-" in path.name]
        generate_file(job, engine=FakeEngine())
        assert digests(home / "out") == wanted, nth
        if not failing.fired:
            assert nth > 3
            return
    raise AssertionError(f"{call} never got through")


class FailNth:
    """Stands for a function; its nth call raises OSError, every other call goes through."""

    def __init__(self, target: str, nth: int, code: int) -> None:
        module, _, name = target.rpartition(".")
        self._real = getattr(pkgutil.resolve_name(module), name)
        self._calls, self._nth, self._code = 0, nth, code
        self.fired = False

    def __get__(self, owner: Any, kind: type) -> Any:
        return functools.partial(self, owner)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        self._calls += 1
        if self._calls == self._nth:
            self.fired = True
            raise OSError(self._code, os.strerror(self._code))
        return self._real(*args, **settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"options": GenerateOptions(temperature=0.1)}, "settings.options.temperature: found 0.8, this job has 0.1"),
        ({"samples": 2}, "settings.samples: found 1, this job has 2"),
        ({"template": "So: {prompt}"}, "settings.template: found None, this job has 'So: {prompt}'"),
    ],
)
@pytest.mark.parametrize("output", ["shards", "stories.parquet", "stories.jsonl"])
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused(
    finished: bool, output: str, change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    job = job_for(tmp_path, output)
    if finished:
        generate_file(job, engine=FakeEngine())
    else:
        with pytest.raises(KeyboardInterrupt):
            generate_file(job, engine=Interrupted())
    before = digests(tmp_path / "out")
    other = job.model_copy(update=change)
    with pytest.raises(ConfigError, match="holds another job") as caught:
        generate_file(other, engine=FakeEngine())
    assert named in str(caught.value)
    assert digests(tmp_path / "out") == before
    summary = generate_file(other.model_copy(update={"overwrite": True}), engine=FakeEngine())
    assert summary.reused_rows == 0
    assert digests(tmp_path / "out") != before


def test_other_model_and_other_prompts_are_refused(tmp_path: Path) -> None:
    job = job_for(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        generate_file(job, engine=Interrupted())
    with pytest.raises(ConfigError, match="model: found 'fake-model', this job has 'other'"):
        generate_file(job, engine=FakeEngine(info=FakeInfo(model_digest="other")))
    prompts = Path(job.prompts[0])
    prompts.write_bytes(prompts.read_bytes().replace(b"Story 7\n", b"Story 8\n"))
    with pytest.raises(ConfigError, match=r"inputs\.0\.sha256"):
        generate_file(job, engine=FakeEngine())


def test_nothing_stays_of_a_worker_that_was_killed_while_others_went_on(
    tmp_path: Path, expected: Callable[..., dict[str, str]]
) -> None:
    wanted, job, engine = expected("shards"), job_for(tmp_path), FakeEngine()
    with job_lock(job):
        plan = start_job(job, engine)
        (Path(job.output) / ".part-00001.parquet.tmp-1-abcdef").write_bytes(b"half a shard")
        run_range(plan, missing_shards(plan), engine)
        finish_job(plan)
    assert digests(tmp_path / "out") == wanted


def test_worker_with_another_model_version_or_file_is_refused(tmp_path: Path) -> None:
    job, engine = job_for(tmp_path), FakeEngine()
    with job_lock(job):
        plan = start_job(job, engine)
        with pytest.raises(ConfigError, match="model: the job's is fake-model"):
            run_range(plan, [0], FakeEngine(info=FakeInfo(model_digest="other")))
        with pytest.raises(ConfigError, match=r"planned by TinyLM 0\.0\.0"):
            run_range(plan.model_copy(update={"version": "0.0.0"}), [0], engine)
        Path(job.prompts[0]).write_text("Story 0\n")
        with pytest.raises(DataError, match="bytes here"):
            run_range(plan, [0], engine)
    assert engine.submitted == 0


def test_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stories.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not a job's output"):
        generate_file(job_for(tmp_path, "stories.jsonl"), engine=FakeEngine())
    with pytest.raises(ConfigError, match=r"holds other files, such as stories\.jsonl"):
        generate_file(job_for(tmp_path, ""), engine=FakeEngine())
    assert (tmp_path / "out" / "stories.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["y" * 256, "y" * 254 + ".jsonl", "prompts.txt", "prompts.txt/out.csv", "a\0b"])
def test_impossible_output_is_refused(name: str, tmp_path: Path) -> None:
    job = job_for(tmp_path).model_copy(update={"output": str(tmp_path / name)})
    with pytest.raises(ConfigError, match="output: "):
        generate_file(job, engine=FakeEngine())


@pytest.mark.parametrize("name", ["o d d\n\tü🐢", "-", "%41", "[a]*", "~"])
def test_odd_names_are_only_names(name: str, tmp_path: Path) -> None:
    job = job_for(tmp_path, name)
    generate_file(job, engine=FakeEngine())
    generate_file(job.model_copy(update={"output": f"{job.output}.jsonl"}), engine=FakeEngine())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [name, f"{name}.jsonl", f"{name}.jsonl.manifest.json"]
    )


def test_damaged_shard_is_written_again(tmp_path: Path, expected: Callable[..., dict[str, str]]) -> None:
    wanted, job = expected("shards"), job_for(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        generate_file(job, engine=Interrupted())
    shard = next((tmp_path / "out" / "shards").glob("part-*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    generate_file(job, engine=FakeEngine())
    assert digests(tmp_path / "out") == wanted


def test_second_job_waits_or_refuses(tmp_path: Path) -> None:
    job, order = job_for(tmp_path), []
    with job_lock(job):
        with pytest.raises(ConfigError, match=f"is being written by process {os.getpid()}"):
            generate_file(job.model_copy(update={"busy": "refuse"}), engine=FakeEngine())
        second = threading.Thread(target=lambda: order.append(generate_file(job, engine=FakeEngine()).rows))
        second.start()
        time.sleep(0.2)
        order.append(-1)
    second.join()
    assert order == [-1, 230]


def test_same_text_whatever_the_work_looks_like(tmp_path: Path) -> None:
    texts = set()
    for place, engine in enumerate(
        [FakeEngine(), FakeEngine(shuffle=False), FakeEngine(info=FakeInfo(1, 1)), FakeEngine(info=FakeInfo(3, 64))]
    ):
        job = job_for(tmp_path, f"{place}.parquet", shard_rows=[7, 20, 100, 1000][place], samples=2)
        generate_file(job, engine=engine)
        texts.add(tuple(tuple(row.items()) for row in pq.read_table(job.output).to_pylist()))
    assert len(texts) == 1


def test_prompts_that_change_while_they_are_read(tmp_path: Path) -> None:
    class Cutter(FakeEngine):
        def submit(self, request: Any) -> int:
            prompts.write_text("Story 0\n")
            return super().submit(request)

    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"Story {'long ' * 50}\n" * 5000)
    job = job_for(tmp_path)
    with pytest.raises(DataError, match="changed while they were read"):
        generate_file(job, engine=Cutter())


@pytest.mark.parametrize("output", ["stories", "stories.jsonl"])
def test_kills_at_random_moments(output: str, tmp_path: Path) -> None:
    assert kill_and_compare(tmp_path, rows=1000, kills=3, model="", output=output, seed=7) == 3
