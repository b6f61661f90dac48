"""The command line: `--json` ends standard output; flags reach the options; signals end in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
from cli_support import answer, refused, run

import tinylm.engine
from tinylm.cli.options import ENGINE, JOB, SAMPLING
from tinylm.config import GenerateOptions
from tinylm.engine import Engine
from tinylm.stories.job import GenerateJob, JobSummary
from tinylm.stories.telling import generate_story


def test_story_and_its_json(model: Path) -> None:
    told = answer("story", "Once", "--model", model, "--max-new-tokens", 5, "--temperature", 0)
    assert told["prompt"] == "Once"
    plain = run("story", "Once", "--model", model, "--max-new-tokens", 5, "--temperature", 0)
    assert plain.stdout.strip() == ("Once" + told["text"]).strip()


def test_one_stream_gets_all_cores(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    load = tinylm.engine.load_engine

    def noting(path: Path, **setup: Any) -> Engine:
        asked.append(setup)
        return load(path, **setup)

    monkeypatch.setattr("tinylm.engine.load_engine", noting)
    monkeypatch.setattr("tinylm.machine.physical_cores", lambda: 3)
    told = answer("story", "Once", "--model", model, "--max-new-tokens", 5)
    assert generate_story(model, "Once", options=GenerateOptions(max_new_tokens=5)) == told["prompt"] + told["text"]
    answer("story", "Once", "--model", model, "--max-new-tokens", 5, "--threads-per-replica", 2, "--max-batch", 4)
    spread = [(setup["replicas"], setup["threads_per_replica"], setup["max_batch"]) for setup in asked]
    assert spread == [(1, 3, 1), (1, 3, 1), (1, 2, 4)]


def test_counts_are_of_stories_and_messages_of_what_was_asked(model: Path) -> None:
    Path("bad.jsonl").write_text('{"prompt": 1}\n{"prompt": 2}\n')
    command = ("generate", "--model", model, "--max-new-tokens", 4)
    told = run(*command, "--prompts", "bad.jsonl", "--out", "bad")
    assert (told.exit_code, told.stdout.split(" rows")[0]) == (2, "0 stories of 2")
    assert "no other row is there" in told.stderr
    Path("prompts.txt").write_text("One day\n")
    for expected in ("tokens/s", "all were there before"):
        assert expected in run(*command, "--prompts", "prompts.txt", "--out", "out").stdout
    assert "GenerateJob" not in refused(*command, "--out", "none")
    assert "warmup" in refused("run", "--set", "train.nope=1")
    for word in ("verify", "gc"):
        assert "missing" in refused("artifacts", word, "--artifacts", "missing")
    nothing = run("compare", "--model", model, "--prompt", "word " * 200, "--backend", "native")
    assert nothing.exit_code == 1


def test_generate_answers_every_row(model: Path) -> None:
    Path("prompts.txt").write_text("One day\nThe cat\n")
    command = ("generate", "--model", model, "--prompts", "prompts.txt", "--max-new-tokens", 4)
    told = answer(*command, "--out", "out.jsonl", "--samples", 2)
    assert told["rows"] == 2
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["row"], row["sample"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    answer(*command, "--out", "again.jsonl", "--samples", 2, "--replicas", 1, "--max-batch", 1)
    assert Path("again.jsonl").read_bytes() == Path("out.jsonl").read_bytes()


def test_eval_init_and_precision(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    Path("text.txt").write_text("Once upon a time there was a cat.\n\nThe dog ran home to the big house.\n")
    told = answer("eval", "--model", model, "--text", "text.txt")
    assert told["bytes"] > 60
    assert 5 < told["bits_per_byte"] < 12
    made = answer("init", "--preset", "gpt-2m", "--precision", "int8", "--out", "random.safetensors")
    assert Path(made["model"]).stat().st_size == made["file_bytes"]
    Path("prompts.txt").write_text("One day\n")
    for precision, told in (("f32", "rounding to int8 stays"), ("int4", "running its int4 copy artifacts/converted/")):
        caplog.clear()
        answer("generate", "--model", model, "--prompts", "prompts.txt", "--out", precision, "--precision", precision)
        assert f"{model} holds int8; " in caplog.text
        assert told in caplog.text
    assert "stays" not in caplog.text
    assert [row["artifact"].split("/")[0] for row in answer("artifacts", "ls")["artifacts"]] == ["converted"] * 2


@pytest.mark.parametrize("flag", sorted(SAMPLING))
def test_sampling_flags_are_the_options(flag: str) -> None:
    """The hand-written table of flags says what `GenerateOptions` says."""
    field = GenerateOptions.model_fields[flag]
    told = SAMPLING[flag].default
    assert told in (str(field.default), "none" if field.default == () else "", "off" if field.default is False else "")


def test_no_sampling_option_lacks_a_flag() -> None:
    assert set(SAMPLING) == set(GenerateOptions.model_fields)


def test_job_flags_are_the_fields_of_a_job() -> None:
    fields = set(GenerateJob.model_fields) - {"prompts", "output", "model", "options", *ENGINE}
    assert {{"theme": "themes", "column": "columns"}.get(flag, flag) for flag in JOB} == fields
    for flag, shown in JOB.items():
        if flag in fields:
            field = GenerateJob.model_fields[flag]
            assert shown.default in (str(field.default), "1000 / samples", "none" if field.default is None else "off")
            assert get_origin(shown.kind) is not Literal or shown.kind == field.annotation


def test_generate_passes_every_flag_on(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[GenerateJob] = []

    def generate_file(job: GenerateJob, progress: object) -> JobSummary:
        del progress
        seen.append(job)
        return JobSummary(output=job.output, model_digest="", shards=0)

    monkeypatch.setattr("tinylm.stories.generate.generate_file", generate_file)
    values = {
        "samples": 3,
        "input_format": "csv",
        "column": "prompt=opening",
        "extra_fields": "ignore",
        "max_row_bytes": 2048,
        "template": "A {cat}",
        "answer_form": "openai",
        "shard_rows": 7,
        "busy": "refuse",
    }
    assert {*values, "theme", "preset", "strict", "overwrite"} == set(JOB)
    flags = [part for flag, value in values.items() for part in (f"--{flag.replace('_', '-')}", value)]
    base = ("generate", "--model", model, "--out", "o.jsonl")
    answer(*base, *flags, "--prompts", "p", "--strict", "--overwrite")
    answer(*base, "--theme", "a", "--theme", "b")
    answer(*base, "--preset", "bedtime")
    found = seen[0].model_dump(include=values.keys())
    assert found == {flag: value for flag, value in values.items() if flag != "column"}
    assert (seen[0].columns, seen[0].prompts, seen[0].strict, seen[0].overwrite) == (
        {"prompt": "opening"},
        ("p",),
        True,
        True,
    )
    assert (seen[1].themes, seen[2].preset, seen[2].shard_rows) == (("a", "b"), "bedtime", None)


@pytest.mark.parametrize("flag", ["max_new_tokens", "temperature", "top_k", "min_p", "seed"])
def test_a_flag_of_zero_counts(model: Path, flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[GenerateOptions] = []
    import tinylm.engine

    def stream(_: Any, prompt: str, options: GenerateOptions) -> Iterator[str]:
        seen.append(options)
        yield prompt

    monkeypatch.setattr(tinylm.engine.Engine, "stream", stream)
    assert run("story", "x", "--model", model, f"--{flag.replace('_', '-')}", 0).exit_code == 0
    assert getattr(seen[0], flag) == 0
    assert seen[0].model_fields_set == {flag}


def test_generate_shows_every_flag() -> None:
    told = run("generate", "--help").stdout
    assert [flag for flag in [*SAMPLING, *ENGINE, *JOB] if f"--{flag.replace('_', '-')}" not in told] == []


def test_doctor_and_version() -> None:
    checks = {check["name"]: check for check in answer("doctor")["checks"]}
    assert checks["engine"]["ok"] is True
    assert checks["cores"]["found"]
    assert run("--version").stdout.startswith("tinylm ")


def in_a_process(*arguments: object) -> subprocess.Popen[str]:
    """Start the command as a user does, with this checkout on the path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "tinylm", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_no_traceback_and_quick_start_in_a_real_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")  # of a terminal that does not know its width
    started_s = time.monotonic()
    told, _ = in_a_process("--help").communicate(timeout=60)
    assert time.monotonic() - started_s < 5, "start-up takes seconds: a heavy import has crept in"
    assert "generate" in told
    process = in_a_process("story", "--model", "absent")
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 2
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_in_order(model: Path, number: int, code: int) -> None:
    Path("prompts.txt").write_text("Once upon a time\n" * 20_000)
    rows = ("--prompts", "prompts.txt", "--out", "out", "--max-new-tokens", 60, "--ignore-eos")
    process = in_a_process("generate", "--model", model, *rows)
    deadline = time.monotonic() + 60
    while not list(Path().glob("out/*.parquet")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == code, told
    assert "the same command goes on" in told
    assert "Traceback" not in told


def test_a_command_under_nohup_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    refused("up")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
