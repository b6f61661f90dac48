"""Who is in a story: names, kinds and the pronouns that always go with them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, TypeVar

from tinylm.corpus.grammar.lexicon import (
    ANIMAL_ACTS,
    ANIMAL_NAMES,
    ANIMALS,
    BOYS,
    CHILD_ACTS,
    GIRLS,
    TRAITS,
)

__all__ = ["Gender", "draw_cast", "pick"]

Gender = Literal["m", "f"]
T = TypeVar("T")

PRONOUNS = {"m": ("he", "him", "his", "himself"), "f": ("she", "her", "her", "herself")}
_NOUNS = {"m": "boy", "f": "girl"}
_RELATIONS = {
    "m": ("friend", "friend", "friend", "brother", "cousin"),
    "f": ("friend", "friend", "friend", "sister", "cousin"),
}
_ELDERS: tuple[tuple[str, Gender], ...] = (
    ("mom", "f"),
    ("mom", "f"),
    ("mom", "f"),
    ("dad", "m"),
    ("dad", "m"),
    ("grandma", "f"),
    ("grandpa", "m"),
)


def pick(options: Sequence[T], rng: random.Random) -> T:
    """Return one of `options`, by one random number."""
    return options[int(rng.random() * len(options))]


def draw_cast(kind: Literal["child", "animal", "any"], rng: random.Random) -> dict[str, str]:
    """Return the slots of hero, friend (suffix 2) and grown-up (suffix 3)."""
    gender, friend_gender = pick("mf", rng), pick("mf", rng)
    elder, elder_gender = pick(_ELDERS, rng)
    slots = {"elder": elder, "trait": pick(TRAITS, rng)}
    slots |= _pronouns("", gender) | _pronouns("2", friend_gender) | _pronouns("3", elder_gender)
    if kind == "child" or (kind == "any" and rng.random() < 0.6):
        slots |= _children(gender, friend_gender, rng)
    else:
        slots |= _animals(gender, friend_gender, rng)
    return slots


def _pronouns(suffix: str, gender: str) -> dict[str, str]:
    return {base + suffix: word for base, word in zip(("he", "him", "his", "himself"), PRONOUNS[gender], strict=True)}


def _children(gender: str, friend_gender: str, rng: random.Random) -> dict[str, str]:
    hero, friend = _two_names(BOYS if gender == "m" else GIRLS, BOYS if friend_gender == "m" else GIRLS, rng)
    act, act2 = _two(CHILD_ACTS, rng)
    return {
        "hero": hero,
        "friend": friend,
        "kind": _NOUNS[gender],
        "kind2": _NOUNS[friend_gender],
        "look": pick(("little", "little", "little", "young", "small"), rng),
        "rel": pick(_RELATIONS[friend_gender], rng),
        "sibling": "brother" if gender == "m" else "sister",
        "act": act,
        "act2": act2,
    }


def _animals(gender: str, friend_gender: str, rng: random.Random) -> dict[str, str]:
    hero, friend = _two_names(ANIMAL_NAMES[gender], ANIMAL_NAMES[friend_gender], rng)
    animal, other = _two(ANIMALS, rng)
    act, act2 = _two(ANIMAL_ACTS, rng)
    return {
        "hero": hero,
        "friend": friend,
        "kind": animal["kind"],
        "kind2": other["kind"],
        "look": pick(("little", *animal["look"].split("/")), rng),
        "look2": pick(("little", *other["look"].split("/")), rng),
        "home": animal["home"],
        "home2": other["home"],
        "went": animal["went"],
        "went2": other["went"],
        "rel": "friend",
        "act": act,
        "act2": act2,
    }


def _two(options: Sequence[T], rng: random.Random) -> tuple[T, T]:
    """Return two different options."""
    first = int(rng.random() * len(options))
    second = int(rng.random() * (len(options) - 1))
    return options[first], options[second + (second >= first)]


def _two_names(first: Sequence[str], second: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """Return two different names; as in children's books, a few names are in most of the stories.

    Seen often, they are what a small model learns to keep apart first.
    """
    name, other = _often_early(first, rng), _often_early(second, rng)
    while other == name:
        other = _often_early(second, rng)
    return name, other


def _often_early(options: Sequence[str], rng: random.Random) -> str:
    """Return one of `options`: half of the time one of the first eighth."""
    return options[int(rng.random() ** 3 * len(options))]
