"""Minimal pairs: one word apart, balanced, and right half of the time for a judge without context."""

from __future__ import annotations

from collections import Counter

import pytest

from tinylm.corpus.pairs import CATEGORIES, Category, minimal_pairs

PAIRS = minimal_pairs(0, 4000)


def differing(good: str, bad: str) -> list[tuple[str, str]]:
    return [(left, right) for left, right in zip(good.split(), bad.split(), strict=True) if left != right]


def test_pairs_are_a_function_of_the_seed() -> None:
    assert minimal_pairs(0, 40) == PAIRS[:40]
    assert minimal_pairs(1, 40) != PAIRS[:40]


def test_categories_take_turns_and_no_pair_returns() -> None:
    assert [category for category, _, _ in PAIRS[:4]] == list(CATEGORIES)
    assert set(Counter(category for category, _, _ in PAIRS).values()) == {1000}
    assert len(set(PAIRS)) == len(PAIRS)


def test_texts_differ_in_one_word() -> None:
    for _, good, bad in PAIRS:
        words = differing(good, bad)
        if any(left in ("a", "an") for left, _ in words):
            words = words[1:]  # the article goes with the word
        assert len(words) == 1, (good, bad)
        assert good.lstrip('"')[0].isupper()
        assert good[-1] in '."!?'


@pytest.mark.parametrize("category", CATEGORIES)
def test_good_and_bad_words_change_places(category: Category) -> None:
    """A judge that only knows how common words are must not do better than chance."""
    words = [differing(good, bad)[-1] for kind, good, bad in PAIRS if kind == category]
    as_good, as_bad = (Counter(word.strip('.,!?"').lower() for word in column) for column in zip(*words, strict=True))
    assert set(as_good) == set(as_bad)
    right = sum(as_good[good.strip('.,!?"').lower()] > as_bad[good.strip('.,!?"').lower()] for good, _ in words)
    assert 0.3 < right / len(words) < 0.7


def test_pronouns_follow_the_child() -> None:
    for category, good, _ in PAIRS:
        lowered = f" {good.lower()} "
        if category == "pronoun":
            assert (" boy" in lowered) == (" he " in lowered), good
            assert (" girl" in lowered) == (" she " in lowered), good
