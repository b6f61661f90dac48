"""Bulk jobs on the real engine and a real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from kill_job import digests, kill_and_compare

from tinylm.config import GenerateOptions
from tinylm.engine import Completion, load_engine
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob
from tinylm.stories.telling import generate_story

OPTIONS = GenerateOptions(max_new_tokens=24, temperature=1.0)


def job_for(shared_data: Path, model: Path, output: Path, rows: int = 120, **settings: Any) -> GenerateJob:
    prompts = output.parent / "prompts.txt"
    output.parent.mkdir(exist_ok=True)
    openings = (shared_data / "prompts" / "openings.txt").read_text(encoding="utf-8").splitlines()[:rows]
    prompts.write_text("".join(f"{line}\n" for line in openings), encoding="utf-8")
    settings = {"options": OPTIONS, "shard_rows": 50, **settings}
    return GenerateJob(prompts=(str(prompts),), output=str(output), model=str(model), **settings)


def test_same_files_whatever_the_engine_looks_like(shared_data: Path, story_model: Path, tmp_path: Path) -> None:
    found = []
    for number, setup in enumerate(
        [{"replicas": 1, "max_batch": 1}, {"replicas": 2, "max_batch": 7}, {"replicas": 1, "isa": "scalar"}]
    ):
        folder = tmp_path / str(number)
        summary = generate_file(job_for(shared_data, story_model, folder / "stories.parquet", samples=2, **setup))
        assert (summary.rows, summary.answers, summary.bad_rows) == (120, 240, 0)
        found.append(digests(folder))
    assert found[0] == found[1] == found[2]


def test_any_row_can_be_told_again_alone(shared_data: Path, story_model: Path, tmp_path: Path) -> None:
    job = job_for(shared_data, story_model, tmp_path / "stories.parquet", rows=30, samples=2)
    with load_engine(story_model, replicas=1) as engine:
        summary = generate_file(job, engine=engine)
        row = pq.read_table(job.output).to_pylist()[41]
        assert (row["row"], row["sample"], row["model"]) == (20, 1, engine.info.model_digest)
        again = OPTIONS.model_copy(update={"seed": row["seed"]})
        assert "".join(engine.stream(row["prompt"], again, sample=1)) == row["text"]
        first = pq.read_table(job.output).to_pylist()[40]
        assert generate_story(engine, first["prompt"], options=again) == first["prompt"] + first["text"]
    assert summary.output_tokens == sum(pq.read_table(job.output)["output_tokens"].to_pylist())
    assert 0 < summary.occupancy <= 1


def test_rows_of_every_kind_share_a_batch(story_model: Path, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"prompt": "Once upon a time", "temperature": 0},
        {"prompt": "word " * 400, "id": "beyond the context"},
        {"prompt": ""},
        {"prompt": "Once", "max_new_tokens": 0},
        {"prompt": "Once", "stop": ["."], "max_new_tokens": 200},
        {"prompt": "Zoë 🐢 \u200b\ufeff", "seed": 5},
        {"prompt": 7},
    ]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = GenerateJob(prompts=(str(prompts),), output=str(tmp_path / "o.jsonl"), model=str(story_model))
    summary = generate_file(job)
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(7))
    assert rows[0]["text"].startswith(", there was")
    assert (rows[1]["finish_reason"], rows[1]["output_tokens"]) == ("invalid_input", 0)
    assert "context" in rows[1]["error"]
    assert rows[2]["text"]
    assert (rows[3]["text"], rows[3]["finish_reason"]) == ("", "length")
    assert rows[4]["finish_reason"] == "stop"
    assert "." not in rows[4]["text"]
    assert rows[5]["seed"] == 5
    assert rows[6]["finish_reason"] == "invalid_input"
    assert summary.complaint is not None
    assert "prompts.jsonl line 2: the prompt has 1201 tokens" in summary.complaint
    assert "2 bad rows" in summary.complaint


def test_interrupted_engine_can_be_used_again(shared_data: Path, story_model: Path, tmp_path: Path) -> None:
    wanted = job_for(shared_data, story_model, tmp_path / "wanted" / "stories", rows=200)
    generate_file(wanted)
    job = job_for(shared_data, story_model, tmp_path / "job" / "stories", rows=200)
    with load_engine(story_model, replicas=2, max_batch=4) as engine:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(engine), "collect", _interrupt_after(type(engine).collect, 120))
            with pytest.raises(KeyboardInterrupt):
                generate_file(job, engine=engine)
        assert engine.collect(0.0) == []
        summary = generate_file(job, engine=engine)
    assert summary.reused_rows in (50, 100)
    assert digests(tmp_path / "job") == digests(tmp_path / "wanted")


def _interrupt_after(collect: Any, answers: int) -> Any:
    seen: list[Completion] = []

    def interrupted(engine: Any, timeout_s: float = 0.0) -> list[Completion]:
        if answers <= len(seen) < 10**6:
            seen.extend([seen[0]] * 10**6)
            raise KeyboardInterrupt
        done: list[Completion] = collect(engine, timeout_s)
        seen.extend(done)
        return done

    return interrupted


def test_killed_engine_goes_on(story_model: Path, tmp_path: Path) -> None:
    assert kill_and_compare(tmp_path, rows=600, kills=3, model=str(story_model), output="stories", seed=1) == 3
