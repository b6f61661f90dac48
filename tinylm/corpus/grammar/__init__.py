"""The built-in story grammar."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GRAMMAR_VERSION", "Story", "write_story"]

GRAMMAR_VERSION = 1


@dataclass(frozen=True)
class Story:
    """One story."""

    text: str


def write_story(seed: int, index: int) -> Story:
    """Return story `index` of `seed`."""
    return Story(f"Once upon a time there was a dog. The dog had {index} bones and {seed} cats. It was happy.")
