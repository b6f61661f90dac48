"""The stories page: what the model writes, beside what people wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylm.report.page import write_page

__all__ = ["Story", "render_stories"]


@dataclass(frozen=True)
class Story:
    """One text: its opening, and how it went on."""

    prompt: str
    text: str
    note: str = ""


def render_stories(
    stories: Sequence[Story], out_html: Path, *, human: Sequence[Story] = (), model: str = "", settings: str = ""
) -> None:
    """Write a page of the model's stories, each beside a held-out human text where `human` has one.

    Args: stories: text without the prompt. human: pairs with `stories` by place.
          model, settings: shown under the title, such as the model's name and the sampling options.
    """
    pairs = [(story, human[i] if i < len(human) else None) for i, story in enumerate(stories)]
    write_page(out_html, "stories.html.j2", title="Stories", pairs=pairs, model=model, settings=settings)
