"""What a first visitor may type: each answer names what was found, what was expected, and what to do."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cli_support import answer, refused, run

from tinylm.bench.config import Load
from tinylm.errors import ConfigError
from tinylm.pipeline import profile_changes
from tinylm.stories.chat import Chat
from tinylm.stories.job import GenerateJob


@pytest.mark.parametrize("beginning", ["zip", b"\x80\x02}q\x00", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."])
@pytest.mark.parametrize("command", [("inspect",), ("import", "--out", "out")])
def test_weights_of_pytorch_are_called_a_pickle(command: tuple[str, ...], beginning: Any) -> None:
    if beginning == "zip":
        with zipfile.ZipFile("pytorch_model.bin", "w") as archive:
            archive.writestr("archive/data.pkl", "x" * 100)
    else:
        Path("pytorch_model.bin").write_bytes(beginning + bytes(100))
    told = refused(*command, "pytorch_model.bin")
    assert "pytorch_model.bin: is a pickle, which can run code" in told
    assert "save_pretrained(new_folder)" in told


def test_a_model_of_ours_is_inspected_under_any_name(model: Path) -> None:
    Path("tiny.model").write_bytes(model.read_bytes())
    assert answer("inspect", "tiny.model")["stored_as"] == "int8"
    Path("tiny.txt").write_text("no model")
    assert "unknown kind of file" in refused("inspect", "tiny.txt")


@pytest.mark.parametrize("page", ["/dev/null", "file/page.html"])
def test_a_page_has_a_place_before_any_story_is_written(page: str, model: Path) -> None:
    Path("file").touch()
    Path("prompts.txt").write_text("One day\n")
    refused("generate", "--model", model, "--prompts", "prompts.txt", "--out", "out", "--page", page)
    assert not Path("out").exists()


def test_a_template_that_does_not_parse_is_named(model: Path) -> None:
    told = refused("generate", "--model", model, "--prompts", "p.txt", "--out", "out", "--template", "{animal")
    assert "template: expected '}' before end of string; found '{animal', expected places such as {animal}" in told
    with pytest.raises(ValueError, match="template: "):
        GenerateJob(prompts=("p",), output="o", template="}")


def test_text_that_is_empty_is_named(model: Path) -> None:
    for name in ("empty.txt", "empty.csv"):
        Path(name).write_text("")
    told = refused("eval", "--model", model, "--text", "empty.txt", "--text", "empty.csv")
    assert "--text: found no text in empty.txt, empty.csv; expected" in told


def test_a_model_that_no_backend_can_read_is_bad_input() -> None:
    Path("junk").write_bytes(b"junk" * 100)
    assert "model junk: " in refused("compare", "--model", "junk")


@pytest.mark.parametrize("setting", ["=3", ".=3", "train.=3", "train..minutes=3", "train"])
def test_a_setting_has_a_key(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"expected table\.key=value"):
        profile_changes(settings=[setting])


def test_a_bound_or_load_that_nothing_can_keep_is_refused(model: Path) -> None:
    assert "slo: found 'p99_e2e=0ms'; expected" in refused(
        "bench", "find-rate", "--model", model, "--slo", "p99_e2e=0ms"
    )
    told = refused("bench", "run", "--model", model, "--load", "closed:99999999999")
    assert "clients: Input should be less than or equal to 65536; found 99999999999" in told
    assert Load.parse("closed:65536").clients == 65_536


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, 2), (errno.EPERM, 2), (errno.EROFS, 2), (errno.EIO, 1), (errno.ENOSPC, 1)]
)
def test_what_the_system_forbids_is_for_the_user_to_mend(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "secret.txt")

    monkeypatch.setattr("tinylm.interop.inspect.inspect_file", refuse)
    told = run("inspect", "secret.txt")
    assert told.exit_code == code
    assert f"tinylm: secret.txt: {os.strerror(number)}" in told.stderr
    assert ("name another path, or change who may use this one" in told.stderr) == (code == 2)


def test_a_chat_says_why_it_cannot_keep_its_stories() -> None:
    said: list[str] = []
    lines = iter(["/export folder", "/export new/stories.txt", "/quit"])
    Path("folder").mkdir()
    Path("new").touch()
    Chat(None, None, lambda _: next(lines), said.append).run()  # type: ignore[arg-type]
    text = "".join(said)
    assert "folder: is a folder; expected a new or a regular file: name another output" in text
    assert "new/stories.txt: cannot be written" in text
