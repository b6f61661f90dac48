"""Minimal pairs: two little texts that differ in one word, of which only one keeps to what was said before.

A model that follows a story gives the good text the higher probability; one that ignores the context is right
half of the time, because the good and the bad word change places from pair to pair. The language is plain enough
for any model of children's stories, not only for ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from tinylm.corpus.grammar.cast import PRONOUNS, pick
from tinylm.corpus.grammar.lexicon import BOYS, GIRLS, TRAITS
from tinylm.corpus.grammar.template import with_article

__all__ = ["CATEGORIES", "Category", "minimal_pairs"]

Category = Literal["name", "pronoun", "object", "agreement"]
CATEGORIES: tuple[Category, ...] = ("name", "pronoun", "object", "agreement")

_BOYS, _GIRLS = BOYS[:14], GIRLS[:14]  # the names that children's stories use most
_FRIENDS = ("mom", "dad", "grandma", "friend")
_COLORS = ("red", "blue", "green", "yellow", "big", "little", "new", "pretty")
_OBJECTS = ("ball", "doll", "book", "hat", "kite", "car", "boat", "box", "cup", "stick", "flower", "bag")
_ANIMALS = ("dog", "cat", "bird", "rabbit", "frog", "duck", "bear", "mouse", "horse", "fox")
_PLACES = ("park", "garden", "forest", "yard", "house")

# Each text has one {X}: the slot named first goes there in the good text, the one named second in the bad text.
_NAME = (
    "Once upon a time, there was a {trait} {kind} named {a}. One day, {a} went to the {place}. {X} was very happy.",
    '{a} and {b} were friends. {a} had {an_object}. {b} asked, "Can I play with your {object}, {X}?"',
    "{a} lost {his} {object}. {a} was sad. {b} found the {object} and gave it back to {X}.",
    "{a} was sick and had to stay in bed. {b} made some soup for {X}.",
    'One day, {a} fell down and started to cry. {b} ran to help. "Thank you," said {X}.',
    "There was a little {kind} named {a}. {a} loved to play in the {place}. One day, {X} found {an_object} there.",
    'It was the birthday of {a}. {b} had a present. "This is for you, {X}," {b} said.',
)
_PRONOUN = (
    "Once upon a time, there was a little {kind} named {a}. {X} loved to play in the {place}.",
    "{a} was a {trait} {kind}. One day, {X} found {an_object} in the {place}.",
    "There was a {kind} who had {an_object}. The {kind} was happy because {X} loved to play with it.",
    'The little {kind} fell down and hurt a knee. "Ow!" {X} cried.',
    'A {trait} {kind} named {a} wanted to help. "I can do it!" {X} said.',
    "The {kind} went to bed. Soon, {X} fell asleep.",
    "{a} was a little {kind}. {a} looked at the {object} and {X} smiled.",
)
_OBJECT = (
    "{a} had {an_object}. {a} took the {object} to the {place} and played with the {X} all day.",
    '{a} found {an_object} in the {place}. "Look, I found {a_x}!" {a} said.',
    "One day, {a} lost {his} {object}. {a} looked for the {object} everywhere. At last, {a} found the {X}.",
    "{a} wanted {an_object}. So {his} {friend} gave {him} {an_object}. {a} loved the {X} very much.",
    "There was {an_object} on the table. {a} saw the {object} and picked up the {X}.",
    "{a} and {b} both wanted the {object}. In the end, they shared the {X}.",
    "{a} saw a {animal}. The {animal} was hungry, so {a} gave some food to the {X}.",
    "A {animal} lived in the {place}. One day, {a} met the {animal}. {a} and the {X} became good friends.",
)
_AGREEMENT = (
    ("The {animal} {X} very happy.", "was", "were"),
    ("The {animal}s {X} very happy.", "were", "was"),
    ("{a} and {b} {X} good friends.", "were", "was"),
    ("{a} {X} a {trait} {kind}.", "was", "were"),
    ("There {X} a little {animal} in the {place}.", "was", "were"),
    ("There {X} two {animal}s in the {place}.", "were", "was"),
    ("\"The {object} {X} very nice,\" said {a}.", "is", "are"),
    ("\"The {object}s {X} very nice,\" said {a}.", "are", "is"),
    ("\"They {X} my friends,\" said {a}.", "are", "is"),
    ("\"{b} {X} my best friend,\" said {a}.", "is", "are"),
    ("Every day, {a} saw one {X} in the {place}.", "{animal}", "{animal}s"),
    ("One day, {a} saw three {X} in the {place}.", "{animal}s", "{animal}"),
)  # fmt: skip


def minimal_pairs(seed: int, n: int) -> list[tuple[Category, str, str]]:
    """Return `n` different (category, good text, bad text), the four categories in turn; a function of `seed`."""
    rng = random.Random(seed)
    pairs: dict[tuple[Category, str, str], None] = {}
    while len(pairs) < n:
        category = CATEGORIES[len(pairs) % len(CATEGORIES)]
        pairs[(category, *_MAKERS[category](rng))] = None
    return list(pairs)


def _slots(rng: random.Random) -> dict[str, str]:
    """Return the people and things of one pair; `b` is of the other gender, `other` another object."""
    gender = pick("mf", rng)
    thing, other = rng.sample(_OBJECTS, 2)
    animal, other_animal = rng.sample(_ANIMALS, 2)
    he, him, his, _ = PRONOUNS[gender]
    return {
        "a": pick(_BOYS if gender == "m" else _GIRLS, rng),
        "b": pick(_GIRLS if gender == "m" else _BOYS, rng),
        "kind": "boy" if gender == "m" else "girl",
        "he": he,
        "him": him,
        "his": his,
        "not_he": "she" if gender == "m" else "he",
        "trait": pick(TRAITS, rng),
        "friend": pick(_FRIENDS, rng),
        "place": pick(_PLACES, rng),
        "object": thing,
        "other": other,
        "an_object": with_article(f"{pick(_COLORS, rng)} {thing}"),
        "animal": animal,
        "other_animal": other_animal,
    }


def _fill(template: str, slots: dict[str, str], good: str, bad: str) -> tuple[str, str]:
    def text(word: str) -> str:
        words = {**slots, "X": word, "a_x": with_article(word)}
        return _capital(template.replace(". {X}", ". {X_}").format(**words, X_=word[0].upper() + word[1:]))

    return text(good), text(bad)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _name(rng: random.Random) -> tuple[str, str]:
    slots = _slots(rng)
    return _fill(pick(_NAME, rng), slots, slots["a"], slots["b"])


def _pronoun(rng: random.Random) -> tuple[str, str]:
    slots = _slots(rng)
    return _fill(pick(_PRONOUN, rng), slots, slots["he"], slots["not_he"])


def _object(rng: random.Random) -> tuple[str, str]:
    slots, template = _slots(rng), pick(_OBJECT, rng)
    good, bad = ("animal", "other_animal") if "{animal}" in template else ("object", "other")
    return _fill(template, slots, slots[good], slots[bad])


def _agreement(rng: random.Random) -> tuple[str, str]:
    slots, (template, good, bad) = _slots(rng), pick(_AGREEMENT, rng)
    slots["object"] = slots["object"].replace("box", "bag")
    slots["animal"] = {"mouse": "dog", "fox": "cat"}.get(slots["animal"], slots["animal"])  # plurals in -s only
    return _fill(template, slots, good.format(**slots), bad.format(**slots))


_MAKERS: dict[Category, Callable[[random.Random], tuple[str, str]]] = {
    "name": _name,
    "pronoun": _pronoun,
    "object": _object,
    "agreement": _agreement,
}
