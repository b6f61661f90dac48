"""The stories page: what the model writes, beside what people wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylm.config import GenerateOptions
from tinylm.report.page import write_page

__all__ = ["Story", "note_of", "options_text", "render_stories"]

_CUT = {
    "length": "Cut off: it reached the most tokens allowed.",
    "context_full": "Cut off: the model's context was full.",
}


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


def note_of(finish_reason: str) -> str:
    """Return what a reader should know of how a story ended; nothing where it came to its own end."""
    return _CUT.get(finish_reason, "")


def options_text(options: GenerateOptions) -> str:
    """Return the options in words; what is off is left out."""
    o = options
    sampled = (
        (True, f"temperature {o.temperature:g}"),
        (o.top_k, f"top-k {o.top_k}"),
        (o.top_p < 1, f"top-p {o.top_p:g}"),
        (o.min_p, f"min-p {o.min_p:g}"),
        (True, f"seed {o.seed}"),
    )
    every = (
        (o.repetition_penalty != 1, f"repetition penalty {o.repetition_penalty:g}"),
        (o.stop, f"ended before {' or '.join(map(repr, o.stop))}"),
        (o.ignore_eos, "going on past a story's end"),
        (True, f"at most {o.max_new_tokens:,} tokens"),
    )
    chosen = sampled if o.temperature else ((True, "the likeliest token each time"),)
    return f"Written with {', '.join(words for holds, words in (*chosen, *every) if holds)}."
