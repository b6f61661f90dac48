"""The little language that the stories are written in.

    [one/two/three]   one of these, may nest; an empty part may be chosen:  [very /]happy
    {slot}            the slot's value; {Slot} with a capital letter; {a slot}, {A slot} with its article
    <macro>           a template by name

Templates are parsed once; expanding one costs a random number per choice.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Choice", "Macro", "Node", "Slot", "expand", "parse", "with_article"]

_TOKEN = re.compile(r"[\[\]/]|\{[^{}]*\}|<[a-z_0-9]+>|[^\[\]/{}<>]+")
_AN = re.compile(r"[aeiou](?!ni[cf]|se)|hour|honest", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Slot:
    """A value from the story's cast or draws."""

    name: str
    article: bool
    capital: bool


@dataclass(frozen=True, slots=True)
class Macro:
    """A shared template, looked up when expanded."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several node sequences."""

    options: tuple[tuple[Node, ...], ...]


Node = str | Slot | Macro | Choice


def with_article(noun_phrase: str) -> str:
    """Return `noun_phrase` with a or an before it."""
    return f"an {noun_phrase}" if _AN.match(noun_phrase) else f"a {noun_phrase}"


def parse(template: str) -> tuple[Node, ...]:
    """Return the nodes of a template.

    Raises: ValueError if brackets do not match or a character is none of the language's.
    """
    tokens = _TOKEN.findall(template)
    if "".join(tokens) != template:
        raise ValueError(f"template: stray brace in {template!r}")
    nodes, rest = _sequence(tokens, 0, nested=False)
    if rest != len(tokens):
        raise ValueError(f"template: stray ']' in {template!r}")
    return nodes


def _sequence(tokens: list[str], at: int, nested: bool) -> tuple[tuple[Node, ...], int]:
    nodes: list[Node] = []
    while at < len(tokens):
        token = tokens[at]
        if nested and token in "/]":
            return tuple(nodes), at
        if token in "/]":
            break
        at += 1
        if token == "[":
            choice, at = _choice(tokens, at)
            nodes.append(choice)
        else:
            nodes.append(_leaf(token))
    if nested:
        raise ValueError(f"template: '[' is not closed in {''.join(tokens)!r}")
    return tuple(nodes), at


def _choice(tokens: list[str], at: int) -> tuple[Choice, int]:
    options = []
    while True:
        option, at = _sequence(tokens, at, nested=True)
        options.append(option)
        at += 1
        if tokens[at - 1] == "]":
            return Choice(tuple(options)), at


def _leaf(token: str) -> Node:
    if token[0] == "<":
        return Macro(token[1:-1])
    if token[0] != "{":
        return token
    article, _, name = token[1:-1].rpartition(" ")
    capital = (article or name)[0].isupper()
    return Slot(name[0].lower() + name[1:], bool(article), capital)


def expand(
    nodes: tuple[Node, ...],
    slots: Mapping[str, str],
    macros: Mapping[str, tuple[Node, ...]],
    rng: random.Random,
) -> str:
    """Return one text of `nodes`, all choices drawn from `rng`.

    Raises: KeyError naming a slot or macro that is not known.
    """
    out: list[str] = []
    _expand(nodes, slots, macros, rng.random, out.append)
    return "".join(out)


def _expand(
    nodes: tuple[Node, ...],
    slots: Mapping[str, str],
    macros: Mapping[str, tuple[Node, ...]],
    uniform: Callable[[], float],
    emit: Callable[[str], None],
) -> None:
    for node in nodes:
        if isinstance(node, str):
            emit(node)
        elif isinstance(node, Choice):
            _expand(node.options[int(uniform() * len(node.options))], slots, macros, uniform, emit)
        elif isinstance(node, Slot):
            value = slots[node.name]
            if node.article:
                value = with_article(value)
            emit(value[0].upper() + value[1:] if node.capital else value)
        else:
            _expand(macros[node.name], slots, macros, uniform, emit)
