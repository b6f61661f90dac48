"""The interactive mode: openings in, stories out, options changed on the way, the history kept and exported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.config import GenerateOptions, parse
from tinylm.errors import ConfigError, TinyLMError
from tinylm.outputs import cannot_write, check_output
from tinylm.stories.presets import PRESETS, preset_prompts
from tinylm.stories.telling import Storyteller
from tinylm.stories.template import theme_prompt

__all__ = ["Chat", "Told"]

PROMPT = "> "
HELP = """\
Type how a story begins, and it is told to its end. Or:
  /theme WORDS        a story about WORDS
  /preset NAME [N]    the Nth opening of a preset: {presets}
  /again              the last opening once more, told differently
  /more               go on with the last story
  /set OPTION VALUE   change an option; /set alone shows all of them
  /history            the openings so far
  /export FILE        write the history to FILE: .jsonl with all options, else plain text
  /help  /quit        Ctrl-C stops a story, Ctrl-D ends
"""


@dataclass(frozen=True)
class Told:
    """One story of the history; with its seed and options it can be told again, word for word."""

    prompt: str
    text: str
    options: GenerateOptions


class Chat:
    """One conversation. Each story takes the next seed, so that `/again` tells another one."""

    def __init__(
        self,
        engine: Storyteller,
        options: GenerateOptions,
        read: Callable[[str], str],
        write: Callable[[str], None],
    ) -> None:
        """`read` shows its argument and returns a line, raising EOFError at the end; `write` shows text at once."""
        self._engine, self._read, self._write = engine, read, write
        self._options = options
        self.history: list[Told] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "theme": lambda words: self._tell(theme_prompt(words, self._engine.info.provenance)),
            "preset": self._preset,
            "again": lambda _: self._tell(self._last().prompt),
            "more": lambda _: self._tell(self._last().prompt + self._last().text),
            "set": self._set,
            "history": lambda _: self._show_history(),
            "export": self._export,
            "help": lambda _: self._write(HELP.format(presets=", ".join(sorted(PRESETS)))),
        }

    def run(self) -> None:
        """Talk until /quit or the end of input."""
        self._write("Type how a story begins; /help shows what else there is.\n")
        for line in self._lines():
            if line.split()[0] in ("/quit", "/exit"):
                return
            try:
                self._do(line)
            except (TinyLMError, OSError) as error:
                self._write(f"{error}\n")

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = self._read(PROMPT).rstrip("\n")
            except (EOFError, KeyboardInterrupt):
                self._write("\n")
                return
            if line.strip():
                yield line

    def _do(self, line: str) -> None:
        if not line.startswith("/"):
            self._tell(line)
            return
        name, _, rest = line[1:].partition(" ")
        if name not in self._commands:
            raise ConfigError(f"no command /{name}; known: {', '.join(f'/{known}' for known in self._commands)}, /quit")
        self._commands[name](rest.strip())

    def _tell(self, prompt: str) -> None:
        options, pieces = self._options, list[str]()
        self._options = options.model_copy(update={"seed": options.seed + 1})
        self._write(prompt)
        try:
            for piece in self._engine.stream(prompt, options):
                self._write(piece)
                pieces.append(piece)
        except KeyboardInterrupt:
            self._write(" … stopped")
        self._write("\n")
        self.history.append(Told(prompt, "".join(pieces), options))

    def _last(self) -> Told:
        if not self.history:
            raise ConfigError("no story was told yet; type how one begins")
        return self.history[-1]

    def _preset(self, words: str) -> None:
        name, _, place = words.partition(" ")
        openings = preset_prompts(name)
        number = int(place) if place.isdecimal() else 1 + len(self.history) % len(openings)
        if not 1 <= number <= len(openings):
            raise ConfigError(f"preset {name} has openings 1 to {len(openings)}; found {place}")
        self._tell(openings[number - 1])

    def _set(self, words: str) -> None:
        name, _, value = words.partition(" ")
        if name:
            values = self._options.model_dump() | {name: _parsed(name, value.strip())}
            self._options = parse(GenerateOptions, values, "/set")
        shown = {name: getattr(self._options, name)} if name else self._options.model_dump()
        self._write("".join(f"  {key} = {item}\n" for key, item in shown.items()))

    def _show_history(self) -> None:
        for number, told in enumerate(self.history, 1):
            self._write(f"{number:3}. {told.prompt[:70]} (seed {told.options.seed}, {len(told.text.split())} words)\n")

    def _export(self, name: str) -> None:
        if not name:
            raise ConfigError("/export needs a file name, such as /export stories.txt")
        path = Path(name).expanduser()
        if path.suffix.lower() == ".jsonl":
            body = "".join(f"{json.dumps(_record(told), ensure_ascii=False)}\n" for told in self.history)
        else:
            body = "\n\n".join(told.prompt + told.text for told in self.history) + "\n"
        check_output(path)
        try:
            path.write_text(body, encoding="utf-8")
        except OSError as error:
            raise cannot_write(path, error) from None
        self._write(f"{len(self.history)} stories written to {path}\n")


def _parsed(name: str, value: str) -> Any:
    """Return a JSON value where `value` is one (0.5, true, ["a"]), else the text itself."""
    try:
        found = json.loads(value)
    except ValueError:
        found = value
    return (str(found),) if name == "stop" and not isinstance(found, list) else found


def _record(told: Told) -> dict[str, Any]:
    """Return one .jsonl row: the story and the fields that a prompts file takes."""
    return {"prompt": told.prompt, "text": told.text, **told.options.model_dump(mode="json")}
