"""A job on a disk that fills up: a clear message, whole shards kept, the same files once there is room."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from kill_job import digests

from tinylm.errors import StageError
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob

ROWS = 2000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    try:
        yield disk
    finally:
        busy = subprocess.run(["umount", disk], check=False).returncode
        subprocess.run(["umount", "-l", disk], check=False)
        assert not busy, "a file of the job is still open after it ended"


def test_a_limit_on_files_is_no_full_disk(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Once\n" * ROWS)
    job = GenerateJob(prompts=(str(prompts),), output=str(tmp_path / "out.csv"), shard_rows=100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(StageError, match=r"^limit .*\(ulimit -f\) reached .* 20 of 20 shards .* raise the limit"):
            generate_file(job, engine=FakeEngine())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert generate_file(job, engine=FakeEngine()).reused_rows == ROWS


def _resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


@pytest.mark.parametrize("output", ["stories", "stories.parquet", "stories.jsonl", "stories.csv"])
def test_job_goes_on_when_there_is_room_again(output: str, small_disk: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"Story {row} began when the sun was high.\n" for row in range(ROWS)))

    def job_in(folder: Path) -> GenerateJob:
        return GenerateJob(prompts=(str(prompts),), output=str(folder / output), shard_rows=100)

    generate_file(job_in(tmp_path / "wanted"), engine=FakeEngine())
    job, failures, engine = job_in(small_disk / "job"), 0, FakeEngine()
    for kilobytes in (8, 24, 60, 120, 200, 280, 320, 480, 700, 1000, 3000):
        _resize(small_disk, kilobytes)
        try:
            generate_file(job, engine=engine)
        except StageError as error:
            failures += 1
            told = re.search(r"disk full .* needs about ([\d.]+) MB more, [\d.]+ MB are free", str(error))
            assert told, error  # noqa: PT017
            assert 0 < float(told[1]) < 10
            assert not [path for path in small_disk.rglob("*") if ".tmp-" in path.name]
            continue
        break
    assert failures >= 3
    assert digests(small_disk / "job") == digests(tmp_path / "wanted")
    assert engine.submitted < 3 * ROWS, "whole shards were kept from run to run"
