"""Who is in a story: names, kinds and the pronouns that always go with them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from tinylm.corpus.grammar.lexicon import (
    ANIMAL_ACTS,
    ANIMAL_NAMES,
    ANIMALS,
    BOYS,
    CHILD_ACTS,
    GIRLS,
    TRAITS,
    Row,
)

__all__ = ["Gender", "cast_options", "draw_cast", "pick"]

Gender = Literal["m", "f"]
T = TypeVar("T")

PRONOUNS = {"m": ("he", "him", "his", "himself"), "f": ("she", "her", "her", "herself")}
_NOUNS = {"m": "boy", "f": "girl"}
_SIBLINGS = {"m": "brother", "f": "sister"}
_RELATIONS = {
    "m": ("friend", "friend", "friend", "brother", "cousin"),
    "f": ("friend", "friend", "friend", "sister", "cousin"),
}
# No name is a hero's in one story and a friend's in another: a model of three minutes else gave both the same one
# in 5 stories of 100.
_ROLES = {"hero": slice(0, None, 2), "friend": slice(1, None, 2)}
_LOOKS = ("little", "little", "little", "young", "small")
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


def cast_options(kind: Literal["child", "animal"]) -> list[list[dict[str, Sequence[str]]]]:
    """Return what `draw_cast` draws from: for each draw its outcomes, for each outcome what its slots may say."""
    child = kind == "child"
    names: Mapping[str, Sequence[str]] = {"m": BOYS, "f": GIRLS} if child else ANIMAL_NAMES
    draws: list[list[dict[str, Sequence[str]]]] = []
    for role, suffix in (("hero", ""), ("friend", "2")):
        people = [(gender, name) for gender in "mf" for name in names[gender][_ROLES[role]]]
        draws.append([_person(role, suffix, name, gender, child) for gender, name in people])
        if not child:
            draws.append([_animal_options(row, suffix) for row in ANIMALS])
    draws.append([_fixed({"elder": elder} | _pronouns("3", gender)) for elder, gender in dict.fromkeys(_ELDERS)])
    acts = CHILD_ACTS if child else ANIMAL_ACTS
    draws += [[{"trait": TRAITS}], [{"act": acts}], [{"act2": acts}]]
    return [*draws, [{"look": _LOOKS}]] if child else draws


def _person(role: str, suffix: str, name: str, gender: str, child: bool) -> dict[str, Sequence[str]]:
    options = _fixed({role: name} | _pronouns(suffix, gender))
    if child:
        options |= _fixed({f"kind{suffix}": _NOUNS[gender]} | ({} if suffix else {"sibling": _SIBLINGS[gender]}))
    return options | ({"rel": _RELATIONS[gender] if child else ("friend",)} if suffix else {})


def _fixed(words: Mapping[str, str]) -> dict[str, Sequence[str]]:
    return {slot: (word,) for slot, word in words.items()}


def _animal_options(animal: Row, suffix: str) -> dict[str, Sequence[str]]:
    looks = {"look": ("little", *animal["look"].split("/"))}
    return {column + suffix: looks.get(column, (cell,)) for column, cell in animal.items()}


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
        "look": pick(_LOOKS, rng),
        "rel": pick(_RELATIONS[friend_gender], rng),
        "sibling": _SIBLINGS[gender],
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
    """Return the names of hero and friend; as in children's books, a few names are in most of the stories.

    Seen often, they are what a small model learns to keep apart first.
    """
    return _often_early(first[_ROLES["hero"]], rng), _often_early(second[_ROLES["friend"]], rng)


def _often_early(options: Sequence[str], rng: random.Random) -> str:
    """Return one of `options`: half of the time one of the first eighth."""
    return options[int(rng.random() ** 3 * len(options))]
