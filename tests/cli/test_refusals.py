"""Bad input to a command is one line that names it, and exit code 2."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cli_support import SHAPE, answer, refused, run

import tinylm.engine
from tinylm.cli.options import ENGINE
from tinylm.config import parse
from tinylm.errors import ConfigError, EngineError
from tinylm.pipeline import base_changes, load_profile
from tinylm.stories.job import GenerateJob


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
        (["--profile", "BAD.TOML"], "profile BAD.TOML: train.minutes: "),
        (["--profile", "absent.toml"], "profile absent.toml: cannot be read (No such file or directory); expected"),
        (["--profile", "folder.toml"], "profile folder.toml: cannot be read (Is a directory); expected"),
        (["--profile", "junk.toml"], "expected TOML, in UTF-8"),
        (["--profile", "../profiles/story"], "no profile '../profiles/story'"),
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
    Path("BAD.TOML").write_text("[train]\nminutes = -1\n")
    Path("junk.toml").write_bytes(b"\xff\0")
    Path("folder.toml").mkdir()
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


STORED = {
    "ls": ("artifacts", "ls"),
    "show": ("artifacts", "show", "x"),
    "verify": ("artifacts", "verify"),
    "gc": ("artifacts", "gc"),
    "story": ("story", "Once"),
    "run": ("run",),
    "train": ("train", "--out", "out"),
    "limits": ("bench", "limits"),
    "sweep": ("bench", "run"),
}


@pytest.mark.parametrize("command", STORED)
@pytest.mark.parametrize("place", ["file", "file/under", "n" * 300])
def test_a_store_is_a_folder(command: str, place: str) -> None:
    Path("file").write_text("mine")
    told = refused(*STORED[command], "--artifacts", place)
    assert told.startswith("tinylm: --artifacts"), told
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["run", "train"])
def test_a_store_that_cannot_be_written_is_told_before_any_work(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylm.artifacts._make", lambda *_, **__: pytest.fail("made something first"))
    told = refused(*STORED[command], "--artifacts", "/proc/new")
    assert told.startswith("tinylm: /proc/new: cannot be written (")
    assert "by --artifacts or TINYLM_ARTIFACTS" in told
    assert list(Path().iterdir()) == []


def test_limits_that_could_not_be_kept_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylm.bench.limits.measure_limits", lambda *_: pytest.fail("measured first"))
    monkeypatch.setattr("os.access", lambda _, how: not how & os.W_OK)
    assert "--artifacts new: " in refused("bench", "limits", "--artifacts", "new")


def test_the_doctor_tells_of_a_store_that_is_none_among_all_else() -> None:
    Path("file").touch()
    told = run("doctor", "--artifacts", "file")
    assert (told.exit_code, "BAD  store        --artifacts file: is no folder" in told.stdout) == (1, True)


OUTPUTS = {
    "run": ("run", "--reports"),
    "train": ("train", "--out"),
    "sweep": ("bench", "run", "--reports"),
    "rate": ("bench", "find-rate", "--out"),
    "peers": ("bench", "peers", "--reports"),
    "converted": ("bench", "peers", "--work"),
    "training": ("bench", "training", "--out"),
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_place_for_results_is_looked_at_before_the_work(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    told = f"tinylm: {OUTPUTS[command][-1]} file/new: {Path().resolve() / 'file'} is no folder; expected a folder, or"
    assert refused(*OUTPUTS[command], "file/new").startswith(told)
    monkeypatch.setattr("os.access", lambda _, how: not how & os.W_OK)
    assert "cannot be written; expected a folder" in refused(*OUTPUTS[command], "new")
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_folder_without_a_model_says_what_one_has(model: Path) -> None:
    Path("empty").mkdir()
    Path("other").mkdir()
    shutil.copy(model, "other/mine.safetensors")
    for command in (("inspect",), ("import", "--out", "out.safetensors")):
        assert "empty: is a folder without config.json; expected" in refused(*command, "empty")
        assert ", such as other/mine.safetensors" in refused(*command, "other")


@pytest.mark.parametrize("name", ["tiny.safetensors", "TINY.SAFETENSORS", "tiny.bin", "tiny"])
def test_a_model_of_ours_needs_no_import(name: str, model: Path) -> None:
    shutil.copy(model, name)
    told = refused("import", name, "--out", "out.safetensors")
    assert f"{name}: is TinyLM's own model file already; expected one of another tool: use it as it is" in told
    assert not Path("out.safetensors").exists()
    assert name.startswith("tiny") or answer("inspect", name)["stored_as"] == "int8"


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
