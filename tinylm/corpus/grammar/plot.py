"""A plot: who plays in it, what is drawn for it, and its beats.

Text of a plot:  `- ` starts a beat, `| ` another wording of the same beat, other lines continue the one above,
an empty line starts a paragraph.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tinylm.corpus.grammar.cast import pick
from tinylm.corpus.grammar.lexicon import Row, Thing
from tinylm.corpus.grammar.template import Choice, Node, expand, parse

__all__ = ["Draw", "Plot"]

Draw = Sequence[Thing] | Sequence[Row] | Sequence[str]


@dataclass(frozen=True)
class Plot:
    """One course of events, in many wordings."""

    name: str
    cast: Literal["child", "animal", "any"]
    draws: Mapping[str, Draw]
    text: str

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The parsed beats, one node sequence for the whole story."""
        nodes: list[Node] = []
        for number, paragraph in enumerate(self.text.strip().split("\n\n")):
            for place, beat in enumerate(_beats(paragraph)):
                nodes.append(" " if place else "\n" if number else "")
                nodes.append(Choice(tuple(parse(wording) for wording in beat)))
        return tuple(nodes)

    def fill(self, slots: dict[str, str], macros: Mapping[str, tuple[Node, ...]], rng: random.Random) -> None:
        """Add what is drawn for one story to `slots`: the same things from its first line to its last."""
        for name, options in self.draws.items():
            chosen = pick(options, rng)
            if isinstance(chosen, Thing):
                slots[f"{name}n"] = chosen.noun
                slots[name] = f"{pick(chosen.adjectives, rng)} {chosen.noun}"
            elif isinstance(chosen, dict):
                for column, cell in chosen.items():
                    slots[column] = expand(_parsed(cell), slots, macros, rng)
            else:
                slots[name] = expand(_parsed(str(chosen)), slots, macros, rng)


_cells: dict[str, tuple[Node, ...]] = {}


def _parsed(cell: str) -> tuple[Node, ...]:
    if cell not in _cells:
        _cells[cell] = parse(cell)
    return _cells[cell]


def _beats(paragraph: str) -> list[list[str]]:
    beats: list[list[str]] = []
    for line in paragraph.splitlines():
        mark, text = line.strip()[:2], line.strip()[2:]
        if mark == "- ":
            beats.append([text])
        elif mark == "| ":
            beats[-1].append(text)
        else:
            beats[-1][-1] += " " + line.strip()
    return beats
