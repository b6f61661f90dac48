"""One job on threads, a local Dask cluster and a local Ray: the same files; a killed worker costs its range."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_job import digests

from flows.stories import spread
from tinylm.config import GenerateOptions
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the clusters' own warnings are not ours
ROWS = 400


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def job_for(folder: Path, model: Path, tokens: int = 16) -> GenerateJob:
    prompts = folder.parent / "prompts.txt"
    prompts.write_text("".join(f"Once upon a time, number {row}\n" for row in range(ROWS)))
    options = GenerateOptions(max_new_tokens=tokens)
    return GenerateJob(
        prompts=(str(prompts),), output=str(folder / "stories"), model=str(model), shard_rows=50, options=options,
        replicas=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wanted(story_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("wanted") / "local"
    generate_file(job_for(folder, story_model))
    return digests(folder)


@pytest.mark.parametrize("runner", ["threads", "dask", "ray"])
def test_every_runner_writes_the_same_files(
    runner: Any, wanted: dict[str, str], story_model: Path, tmp_path: Path
) -> None:
    if runner != "threads" and not importlib.util.find_spec(f"prefect_{runner}"):
        pytest.skip(f"prefect-{runner} is not installed")
    job = job_for(tmp_path / runner, story_model)
    summary = spread(job, runner, workers=2, address=None, rows_per_task=100)
    assert (summary.rows, summary.reused_rows, summary.shards) == (ROWS, 0, 8)
    assert digests(tmp_path / runner) == wanted
    assert spread(job, runner, workers=2, address=None, rows_per_task=100).reused_rows == ROWS


def test_killed_dask_worker_costs_its_range_only(story_model: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    calm, job = (job_for(tmp_path / name, story_model, tokens=200) for name in ("calm", "killed"))
    generate_file(calm)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        killer = threading.Thread(target=_kill_after_a_shard, args=(tmp_path / "killed" / "stories", pids[0]))
        killer.start()
        summary = spread(job, "dask", workers=2, address=cluster.scheduler_address, rows_per_task=100)
        killer.join()
    assert summary.answers == ROWS
    assert digests(tmp_path / "killed") == digests(tmp_path / "calm")


def _kill_after_a_shard(output: Path, pid: int) -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s and not list(output.glob("part-*")):
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
