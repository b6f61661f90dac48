"""One story at a time: `generate_story` for programs, and its streaming form for terminals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tinylm.completion import EngineInfo
from tinylm.config import GenerateOptions
from tinylm.errors import ConfigError
from tinylm.stories.template import theme_prompt

__all__ = ["Storyteller", "generate_story", "stream_story"]


class Storyteller(Protocol):
    """What one story needs of an engine."""

    @property
    def info(self) -> EngineInfo:
        """Facts; the provenance may hold the model's theme template."""

    def stream(self, prompt: str, options: GenerateOptions) -> Iterator[str]:
        """Yield the text's pieces as they are written."""


def stream_story(
    engine: Storyteller, prompt: str | None = None, *, theme: str | None = None, options: GenerateOptions | None = None
) -> Iterator[str]:
    """Yield a story piece by piece, its opening first.

    Raises: ConfigError unless exactly one of `prompt` and `theme` is given.
    """
    if (prompt is None) == (theme is None):
        raise ConfigError("story: give either a prompt or a theme")
    opening = prompt if prompt is not None else theme_prompt(theme or "", engine.info.provenance)
    yield opening
    yield from engine.stream(opening, options or GenerateOptions())


def generate_story(
    model: str | Path | Storyteller,
    prompt: str | None = None,
    *,
    theme: str | None = None,
    options: GenerateOptions | None = None,
) -> str:
    """Return one whole story, with its opening.

    Args: model: a model file's path, or a loaded engine when many stories are wanted.
    """
    if isinstance(model, str | Path):
        from tinylm.engine import load_engine  # both here, so that the chat can be tried without a built engine
        from tinylm.machine import physical_cores

        with load_engine(Path(model), replicas=1, threads_per_replica=physical_cores(), max_batch=1) as engine:
            return "".join(stream_story(engine, prompt, theme=theme, options=options))
    return "".join(stream_story(model, prompt, theme=theme, options=options))
