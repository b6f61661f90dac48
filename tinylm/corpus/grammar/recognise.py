"""Whether the grammar itself could have written a text: every name, pronoun and thing kept from beginning to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Literal

from tinylm.corpus.grammar.cast import cast_options
from tinylm.corpus.grammar.lexicon import Thing
from tinylm.corpus.grammar.phrases import MACROS
from tinylm.corpus.grammar.plot import Draw, Plot
from tinylm.corpus.grammar.template import Choice, Node, Slot, parse, with_article

__all__ = ["Recogniser"]

Phrase = tuple[str | Slot, ...]  # a template without choices
Option = Mapping[str, Sequence[Phrase]]  # one outcome of a draw: what each of its slots may say
Bound = Mapping[str, str | Sequence[Phrase]]  # slots of this story: their text, or what they may say
_MOST_STEPS = 100_000  # a story of the grammar takes some thousands


class _TooLongError(Exception):
    pass


class Recogniser:
    """Knows every cast and draw of some plots."""

    def __init__(self, plots: Sequence[Plot]) -> None:
        self._plots = [(plot.nodes, draws) for plot in plots for draws in _draws_of(plot)]

    def could_write(self, text: str) -> bool:
        """Return whether one of the plots has a cast, draws and wordings that make exactly `text`."""
        return any(_Reading(text, draws).ends_well(nodes) for nodes, draws in self._plots)


class _Reading:
    """A search for one way to write `text`: choice after choice, taken back where the text goes on differently."""

    def __init__(self, text: str, draws: Mapping[str, Sequence[Option]]) -> None:
        self._text, self._draws, self._steps = text, draws, 0
        self._lower = text.lower()
        self._possible: dict[str, Sequence[Option]] = {}

    def ends_well(self, nodes: tuple[Node, ...]) -> bool:
        try:
            return any(end == len(self._text) for end, _ in self._ends(nodes, 0, {}))
        except _TooLongError:
            return False

    def _ends(self, nodes: tuple[Node, ...], at: int, bound: Bound) -> Iterator[tuple[int, Bound]]:
        """Yield where `nodes` may end that begin at `at`, and what is known of the slots then."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _TooLongError
        if not nodes:
            yield at, bound
            return
        for end, known in self._first(nodes[0], at, bound):
            yield from self._ends(nodes[1:], end, known)

    def _first(self, node: Node, at: int, bound: Bound) -> Iterator[tuple[int, Bound]]:
        if isinstance(node, Choice):
            for option in dict.fromkeys(node.options):
                yield from self._ends(option, at, bound)
        elif isinstance(node, str | Slot):
            for written, known in self._written(node, bound):
                if self._text.startswith(written, at):
                    yield at + len(written), known
        else:
            yield from self._ends(MACROS[node.name], at, bound)

    def _written(self, node: str | Slot, bound: Bound) -> Iterator[tuple[str, Bound]]:
        if isinstance(node, str):
            yield node, bound
            return
        for value, known in self._values(node.name, bound):
            text = with_article(value) if node.article else value
            yield (text[0].upper() + text[1:] if node.capital else text), known

    def _values(self, name: str, bound: Bound) -> Iterator[tuple[str, Bound]]:
        if name not in bound:
            for option in self._options(name):
                yield from self._values(name, {**option, **bound})
            return
        value = bound[name]
        if isinstance(value, str):
            yield value, bound
            return
        for phrase in value:
            for text, known in self._said(phrase, bound):
                yield text, {**known, name: text}

    def _options(self, name: str) -> Sequence[Option]:
        """Return the outcomes whose words for this slot are somewhere in the text: three names of 69, say."""
        if name not in self._possible:
            self._possible[name] = [row for row in self._draws[name] if any(map(self._has, row[name]))]
        return self._possible[name]

    def _has(self, phrase: Phrase) -> bool:
        return all(part.lower() in self._lower for part in phrase if isinstance(part, str))

    def _said(self, phrase: Phrase, bound: Bound) -> Iterator[tuple[str, Bound]]:
        if not phrase:
            yield "", bound
            return
        for head, known in self._written(phrase[0], bound):
            for tail, more in self._said(phrase[1:], known):
                yield head + tail, more


def _phrases(nodes: tuple[Node, ...]) -> tuple[Phrase, ...]:
    """Return every wording of a template, its slots still open."""

    def ways(node: Node) -> tuple[Phrase, ...]:
        if isinstance(node, str | Slot):
            return ((node,),)
        options = node.options if isinstance(node, Choice) else (MACROS[node.name],)
        return tuple(phrase for option in options for phrase in _phrases(option))

    return tuple(tuple(part for way in each for part in way) for each in product(*map(ways, nodes)))


def _draws_of(plot: Plot) -> Iterator[Mapping[str, Sequence[Option]]]:
    """Yield, for each kind of cast that the plot may have, the outcomes of the draw that fills each slot."""
    drawn = _drawn(plot.draws)
    if plot.cast != "animal":
        yield _cast("child") | drawn
    if plot.cast != "child":
        yield _cast("animal") | drawn


def _drawn(draws: Mapping[str, Draw]) -> dict[str, Sequence[Option]]:
    by_slot: dict[str, Sequence[Option]] = {}
    for name, draw in draws.items():
        options = [_outcome(name, chosen) for chosen in draw]
        by_slot |= dict.fromkeys(options[0], options)
    return by_slot


def _outcome(name: str, chosen: Thing | Mapping[str, str] | str) -> Option:
    if isinstance(chosen, Thing):
        described = tuple((f"{adjective} {chosen.noun}",) for adjective in chosen.adjectives)
        return {f"{name}n": ((chosen.noun,),), name: described}
    cells = {name: chosen} if isinstance(chosen, str) else chosen
    return {column: _phrases(parse(cell)) for column, cell in cells.items()}


@cache
def _cast(kind: Literal["child", "animal"]) -> dict[str, Sequence[Option]]:
    by_slot: dict[str, Sequence[Option]] = {}
    for draw in cast_options(kind):
        options = [{slot: [(word,) for word in dict.fromkeys(words)] for slot, words in row.items()} for row in draw]
        by_slot |= dict.fromkeys(draw[0], options)
    return by_slot
