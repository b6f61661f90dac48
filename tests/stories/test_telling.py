"""One story at a time: the Python call and the chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import FakeInfo

from tinylm.config import GenerateOptions
from tinylm.errors import ConfigError
from tinylm.stories.chat import Chat
from tinylm.stories.telling import generate_story


class Teller:
    """Tells its seed and temperature; `stop_after` pieces it is interrupted."""

    def __init__(self, stop_after: int = 99, **provenance: str) -> None:
        self.stop_after = stop_after
        self.info = FakeInfo(provenance=provenance)

    def stream(self, prompt: str, options: GenerateOptions) -> Iterator[str]:
        del prompt
        for place, piece in enumerate((" seed", f" {options.seed}", f" at {options.temperature}.")):
            if place == self.stop_after:
                raise KeyboardInterrupt
            yield piece


def talk(lines: list[str], teller: Teller | None = None) -> tuple[Chat, str]:
    said: list[str] = []
    given = iter(lines)

    def read(prompt: str) -> str:
        del prompt
        line = next(given, None)
        if line is None:
            raise EOFError
        return line

    chat = Chat(teller or Teller(), GenerateOptions(), read, said.append)
    chat.run()
    return chat, "".join(said)


def test_generate_story_from_a_prompt_or_a_theme() -> None:
    assert generate_story(Teller(), "Once") == "Once seed 0 at 0.8."
    assert "friendship" in generate_story(Teller(), theme="friendship")
    assert generate_story(Teller(theme_template="On {theme}:"), theme="hats").startswith("On hats: seed")
    for wrong in ({}, {"prompt": "a", "theme": "b"}):
        with pytest.raises(ConfigError, match="either a prompt or a theme"):
            generate_story(Teller(), **wrong)
    with pytest.raises(ConfigError, match="theme: found an empty one"):
        generate_story(Teller(), theme=" ")


def test_chat_begins_a_theme_as_the_model_says() -> None:
    chat, _ = talk(["/theme hats"], Teller(theme_template="On {theme}:"))
    assert chat.history[0].prompt == "On hats:"


def test_chat_tells_sets_and_goes_on() -> None:
    chat, said = talk(
        ["Once", "", "/set temperature 0.25", "/again", "/more", "/set stop The end", "/history", "/quit", "never"]
    )
    assert [(told.prompt, told.options.seed, told.options.temperature) for told in chat.history] == [
        ("Once", 0, 0.8),
        ("Once", 1, 0.25),
        ("Once seed 1 at 0.25.", 2, 0.25),
    ]
    assert "Once seed 0 at 0.8.\n" in said
    assert "stop = ('The end',)" in said
    assert "  2. Once (seed 1, 4 words)" in said


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/nonsense", "no command /nonsense"),
        ("/set temperature hot", "/set: temperature"),
        ("/set temperature 101", "less than or equal to 100"),
        ("/set warmth 1", "warmth: unknown key"),
        ("/again", "no story was told yet"),
        ("/preset nothing", "known presets"),
        ("/preset bedtime 99", "openings 1 to"),
        ("/export", "needs a file name"),
        ("/export /no/such/folder/s.txt", "No such file"),
        ("/help", "Ctrl-C stops a story"),
    ],
)
def test_chat_survives_mistakes(line: str, answer: str) -> None:
    chat, said = talk([line, "Once"])
    assert answer in said
    assert [told.prompt for told in chat.history] == ["Once"]


def test_chat_export_and_interruption(tmp_path: Path) -> None:
    chat, said = talk(["Once", f"/export {tmp_path}/a.jsonl", f"/export {tmp_path}/a.txt"], Teller(stop_after=1))
    assert "… stopped" in said
    assert chat.history[0].text == " seed"
    row = json.loads((tmp_path / "a.jsonl").read_text())
    assert (row["prompt"], row["text"], row["seed"], row["stop"]) == ("Once", " seed", 0, [])
    assert (tmp_path / "a.txt").read_text() == "Once seed\n"
