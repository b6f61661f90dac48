"""The command line: bad input is one line and exit code 2; `--json` ends standard output; flags reach the options."""

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
from typer.testing import CliRunner, Result

import tinylm.engine
from tinylm.cli import app
from tinylm.cli.options import ENGINE, JOB, SAMPLING
from tinylm.config import GenerateOptions, ModelConfig, parse
from tinylm.engine import Engine
from tinylm.errors import ConfigError, EngineError
from tinylm.modelfile import random_weights
from tinylm.pipeline import base_changes, load_profile
from tinylm.quantize import write_model
from tinylm.stories import GenerateJob, JobSummary, generate_story

SHAPE = ModelConfig(vocab_size=259, context_length=64, n_layers=2, n_heads=2, n_kv_heads=2, d_model=32, d_ff=64)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every command in an empty folder, and leave the process's signal handlers as they were."""
    monkeypatch.chdir(tmp_path)
    for name in ("TINYLM_ARTIFACTS", "TINYLM_REPORTS"):
        monkeypatch.delenv(name, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_model(path, SHAPE, random_weights(SHAPE, 1), b"", "bytes", 256, 257, "int8", {"name": "tiny"})
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="tinylm")


def answer(*arguments: object) -> dict[str, Any]:
    """Return the JSON that `--json` printed, which must be the only line of standard output."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 1
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def refused(*arguments: object) -> str:
    """Return the one line that a command with bad input says, after checking that it is one and that the code is 2."""
    result = run(*arguments)
    assert result.exit_code == 2, f"exit code {result.exit_code}: {result.output}"
    lines = [line for line in result.stderr.splitlines() if line.startswith("tinylm: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]


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


def test_a_folder_is_no_model_file() -> None:
    result = run("init", "--out", ".")
    assert result.exit_code == 2
    assert "is a directory" in result.stderr


def test_what_cannot_end_well_is_not_begun(model: Path) -> None:
    Path("prompts.txt").write_text("One day\n")
    command = ("generate", "--model", model, "--prompts", "prompts.txt", "--max-new-tokens", 4)
    assert "--page" in refused(*command, "--out", "out.jsonl", "--page", "page.html")
    assert "--page" in refused(*command, "--out", "out", "--page", ".")
    assert "--training" in refused(*command, "--out", "out", "--training", "prompts.txt")
    assert "auto, " in refused(*command, "--out", "out", "--isa", "foo")
    assert "foo://" in refused(*command, "--out", "foo://x/y")
    assert "foo://" in refused(*command[:-4], "--prompts", "foo://x/y.txt", "--out", "out")
    assert not Path("out").exists()


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

    monkeypatch.setattr("tinylm.stories.generate_file", generate_file)
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


def test_bad_job_flags_are_refused(model: Path) -> None:
    base = ("generate", "--model", model, "--out", "o")
    assert "field=column" in refused(*base, "--prompts", "p", "--column", "opening")
    assert "exactly one source" in refused(*base)
    assert "exactly one source" in refused(*base, "--prompts", "p", "--theme", "a")
    assert run(*base, "--prompts", "p", "--busy", "perhaps").exit_code == 2
    assert run(*base, "--prompts", "p", "--shard-rows", "0").exit_code == 2


@pytest.mark.parametrize("flag", ["replicas", "threads_per_replica", "max_batch"])
def test_an_engine_that_cannot_be_is_bad_input(flag: str, model: Path) -> None:
    """The command, a job from Python and the engine have one bound, and each says it."""
    most = int(ENGINE[flag].most or 0)
    told = run("story", "Once", "--model", model, f"--{flag.replace('_', '-')}", most + 1)
    assert (told.exit_code, f" {most} " in told.stderr) == (2, True), told.stderr
    with pytest.raises(ConfigError, match=rf"{flag}: .*less than or equal to {most}; found {most + 1}"):
        parse(GenerateJob, {"prompts": ("p",), "output": "o", flag: most + 1})
    with pytest.raises(EngineError, match=rf"{flag} is {most + 1}, expected 1\.\.{most}"):
        tinylm.engine.load_engine(model, **{flag: most + 1})
    assert "replicas.0: " in refused("bench", "run", "--model", model, "--replicas", 2000)


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


BAD_MODELS = {
    "missing": (None, "no such file"),
    "truncated": (lambda data: data[:-100], "tiny"),
    "altered": (lambda data: data[:-7] + bytes([data[-7] ^ 1]) + data[-6:], "tiny"),
    "no model": (lambda _: b"hello", "tiny"),
    "empty": (lambda _: b"", "tiny"),
    "other version": (lambda data: data.replace(b'"format_version":"1"', b'"format_version":"9"'), "version"),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
@pytest.mark.parametrize("command", ["story", "generate", "eval"])
def test_bad_models_are_refused(model: Path, kind: str, command: str) -> None:
    spoil, expected = BAD_MODELS[kind]
    path = Path("tiny.safetensors")
    if spoil is not None:
        data = spoil(model.read_bytes())
        assert data != model.read_bytes()
        path.write_bytes(data)
    Path("text.txt").write_text("One day there was a little cat who ran.\n")
    extra = {
        "story": ["Once"],
        "generate": ["--prompts", "text.txt", "--out", "out"],
        "eval": ["--text", "text.txt"],
    }[command]
    assert expected in refused(command, "--model", path, *extra)


def test_no_model_at_all_says_what_to_do() -> None:
    assert "tinylm run" in refused("story", "Once")


def test_bad_prompts_are_refused(model: Path) -> None:
    base = ("generate", "--model", model, "--out", "out", "--max-new-tokens", 2)
    assert "absent.txt" in refused(*base, "--prompts", "absent.txt")
    Path("rows.jsonl").write_text('{"prompt": "One"}\nthis is no JSON\n{"prompt": "Two"}\n')
    assert "rows.jsonl" in refused(*base, "--prompts", "rows.jsonl")


def test_bad_text_is_refused(model: Path) -> None:
    assert "absent.txt" in refused("eval", "--model", model, "--text", "absent.txt")
    Path("empty.txt").write_text("")
    refused("eval", "--model", model, "--text", "empty.txt")
    Path("table.csv").write_text("title,story\nOne,The cat ran home to the house.\n")
    assert "--text-column" in refused("eval", "--model", model, "--text", "table.csv")
    assert answer("eval", "--model", model, "--text", "table.csv", "--text-column", "story")["bytes"] == 30


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["--profile", "absent"], "no profile 'absent'"),
        (["--profile", "bad.toml"], "bad.toml"),
        (["--set", "train.color=3"], "train.color: unknown key"),
        (["--set", "colour"], "table.key=value"),
        (["--set", "train.minutes=-1"], "train.minutes"),
        (["--set", "train.minutes.x=1"], "'minutes' is no table"),
        (["--preset", "absent"], "absent"),
        (["--profile", "heads.toml"], "n_heads must divide d_model"),
        (["--profile", "my-text"], "corpus"),
        (["--corpus", "absent.txt"], "absent.txt"),
        (["--corpus", "empty.txt"], "empty.txt"),
    ],
)
def test_bad_settings_are_refused(settings: list[str], expected: str) -> None:
    Path("bad.toml").write_text("[train\n")
    Path("empty.txt").write_text("")
    shape = "vocab_size=512\ncontext_length=64\nn_layers=1\nn_heads=3\nn_kv_heads=3\nd_model=32\nd_ff=64"
    Path("heads.toml").write_text(f"[train.model]\n{shape}\n")
    assert expected in refused("run", *settings)


@pytest.mark.parametrize("other", ["--preset", "--profile", "--from"])
def test_tables_are_for_fitted_shapes(other: str, model: Path) -> None:
    given = model if other == "--from" else "story"
    assert "tables: expected a shape fitted" in refused("train", "--out", "out", "--tables", other, given)


def test_training_on_a_model_takes_its_shape_and_rows_that_fit_it(model: Path) -> None:
    assert "--preset" in refused("train", "--out", "out", "--from", model, "--preset", "story")
    for setting in ("train.preset='story'", "train.model.d_model=128", "train.model={}"):
        key = setting.partition("=")[0]
        assert f"{key}: the model" in refused("train", "--out", "out", "--from", model, "--set", setting)
    train = load_profile("story", base_changes(model, "story", {})).train
    assert (train.shape, train.row_lengths) == (SHAPE, (64,))
    assert "train.context" not in base_changes(model, "story", {"train.context": 32})


def test_a_place_for_the_model_is_made_before_it_is_trained() -> None:
    Path("file").write_text("mine")
    assert "--out file" in refused("train", "--out", "file", "--profile", "quickstart")
    assert Path("file").read_text() == "mine"


def test_stages_that_the_store_lacks_are_refused() -> None:
    for command in ("ls", "verify"):
        assert "no stage 'tokns'" in refused("artifacts", command, "tokns")
        assert "no stage '/tmp'" in refused("artifacts", command, "/tmp")


def test_usage_errors_are_code_2() -> None:
    assert run("generate").exit_code == 2
    assert run("absent").exit_code == 2
    assert run("story", "x", "--top-p", "7").exit_code == 2


def test_comparing_recipes_names_the_text_that_is_missing() -> None:
    assert "absent.txt" in refused("bench", "training", "--corpus", "absent.txt")


def test_up_refuses_another_folder() -> None:
    assert "prefect.yaml" in refused("up")


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
