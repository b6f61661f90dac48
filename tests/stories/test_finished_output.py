"""A job's finished output: what was lost, changed or put there by others is noticed; an overwrite ends whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from kill_job import digests
from small_job import job_for

from tinylm.config import GenerateOptions
from tinylm.errors import ConfigError
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob
from tinylm.stories.storage import LocalFolder


class KilledError(Exception):
    """The process ends here, as far as the disk can tell."""


def test_overwrite_killed_before_the_new_file_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = job_for(tmp_path, "stories.jsonl", rows=30)
    new = old.model_copy(update={"overwrite": True, "options": GenerateOptions(seed=2)})
    generate_file(old, engine=FakeEngine())
    output = Path(old.output)
    before, rename = output.read_bytes(), Path.rename

    def killed(path: Path, target: Path) -> Path:
        if Path(target) == output:
            raise KilledError
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KilledError):
            generate_file(new, engine=FakeEngine())
    assert output.read_bytes() == before
    engine = FakeEngine()
    assert generate_file(new, engine=engine).reused_rows == 30
    assert engine.submitted == 0
    assert {row["seed"] for row in map(json.loads, output.read_text().splitlines())} != {
        row["seed"] for row in map(json.loads, before.decode().splitlines())
    }


@pytest.mark.parametrize("harm", ["removed", "cut", "another's"])
def test_a_finished_folder_that_lost_a_shard_is_mended(harm: str, tmp_path: Path) -> None:
    job = job_for(tmp_path)
    generate_file(job, engine=FakeEngine())
    folder = Path(job.output)
    wanted, victim = digests(folder), folder / "part-00003.parquet"
    if harm == "removed":
        victim.unlink()
    elif harm == "cut":
        os.truncate(victim, 100)
    else:
        shutil.copy(folder / "part-00011.parquet", victim)  # the last, of fewer rows
    engine = FakeEngine()
    generate_file(job, engine=engine)
    assert engine.submitted == 20
    assert digests(folder) == wanted


def test_a_shard_under_another_number_is_written_again(tmp_path: Path) -> None:
    job = job_for(tmp_path)
    generate_file(job, engine=FakeEngine())
    folder = Path(job.output)
    wanted = digests(folder)
    (folder / "_manifest.json").unlink()
    shutil.copy(folder / "part-00002.parquet", folder / "part-00003.parquet")
    generate_file(job, engine=FakeEngine())
    assert digests(folder) == wanted


def test_a_single_file_changed_later_is_not_called_finished(tmp_path: Path) -> None:
    job = job_for(tmp_path, "stories.jsonl")
    generate_file(job, engine=FakeEngine())
    with Path(job.output).open("a") as file:
        file.write("{}\n")
    with pytest.raises(ConfigError, match="was changed after the job had written it"):
        generate_file(job, engine=FakeEngine())


@pytest.mark.parametrize("kept", range(4))
def test_overwrite_killed_while_it_clears_a_folder(kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_file(job_for(tmp_path, rows=45), engine=FakeEngine())
    new = job_for(tmp_path, overwrite=True, options=GenerateOptions(seed=2))
    left, remove = [kept], LocalFolder.remove

    def killed(folder: LocalFolder, name: str) -> None:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        remove(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFolder, "remove", killed)
        with pytest.raises(KilledError):
            generate_file(new, engine=FakeEngine())
    assert generate_file(new, engine=FakeEngine()).rows == 45


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"'])
def test_a_damaged_identity_is_told(body: bytes, tmp_path: Path) -> None:
    job = job_for(tmp_path, rows=20)
    Path(job.output).mkdir(parents=True)
    (Path(job.output) / "_job.json").write_bytes(body)
    with pytest.raises(ConfigError, match="is damaged"):
        generate_file(job, engine=FakeEngine())
    assert generate_file(job.model_copy(update={"overwrite": True}), engine=FakeEngine()).rows == 20


@pytest.mark.parametrize(
    "change", [{"job": 5}, {"summary": {"rows": "x"}}, {"files": [5]}, {"files": [{"name": "part-00000.parquet"}]}]
)
def test_a_damaged_manifest_finishes_nothing(change: dict[str, Any], tmp_path: Path) -> None:
    job = job_for(tmp_path, rows=20)
    generate_file(job, engine=FakeEngine())
    wanted, path = digests(Path(job.output)), Path(job.output) / "_manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="is not a job's output"):
        generate_file(job, engine=FakeEngine())
    generate_file(job.model_copy(update={"overwrite": True}), engine=FakeEngine())
    assert digests(Path(job.output)) == wanted


def test_prompts_are_not_replaced_by_their_answers(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Once\n")
    job = GenerateJob(prompts=(str(prompts),), output=str(prompts), overwrite=True)
    with pytest.raises(ConfigError, match="is also read as prompts"):
        generate_file(job, engine=FakeEngine())
    assert prompts.read_text() == "Once\n"


def test_what_a_killed_run_left_of_a_single_file_is_removed(tmp_path: Path) -> None:
    job = job_for(tmp_path, "stories.jsonl", rows=20)
    Path(job.output).parent.mkdir()
    for name in (".stories.jsonl.tmp-12-ab", ".stories.jsonl.manifest.json.tmp-12-ab", ".stories.jsonl.csv.tmp-1-a"):
        (tmp_path / "out" / name).write_text("half")
    generate_file(job, engine=FakeEngine())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".stories.jsonl.csv.tmp-1-a", "stories.jsonl", "stories.jsonl.manifest.json"]
