"""The score card against texts whose figures can be counted by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tinylm.corpus.grammar import write_story
from tinylm.errors import DataError
from tinylm.scoring import Evaluation
from tinylm.train.scorecard import TrainingText, consistency, form_figures, score_card, self_bleu

TRAINING = TrainingText(
    [
        "The quick brown fox jumps over the lazy dog near the old red barn.",
        "Once upon a time there was a little girl named Lily who loved her cat.",
    ]
)


def test_copies_are_found_to_the_word() -> None:
    text = "Today the quick brown fox jumps over the lazy dog near a river."  # ten words of the first text
    assert TRAINING.longest_copy(text) == 10
    assert TRAINING.novel_spans(text) == (3, 6)
    assert TRAINING.longest_copy("The quick brown fox jumps over the moon.") == 0  # seven words: shorter than a span


def test_a_copy_does_not_cross_documents() -> None:
    across = "near the old red barn once upon a time there was"
    assert TRAINING.longest_copy(across) == 0
    assert TRAINING.novel_spans(across) == (4, 4)


def test_unknown_words_are_novel() -> None:
    assert TRAINING.novel_spans("zig zag zig zag zig zag zig zag zig") == (2, 2)


def test_form_is_counted_by_story_and_by_word() -> None:
    texts = [
        'Once upon a time there was a cat. "Hi, cat," Lily said. The end.',
        'The dog said, "Hello. The dog ran. The dog ran. The dog ran',
    ]
    figures = form_figures(texts, TRAINING, "Once upon a time")
    assert figures["opening_share"] == 0.5
    assert figures["closed_quotes"] == 0.5
    assert figures["closed_endings"] == 0.5
    assert figures["repeated_sentences"] == pytest.approx(1 / 7)
    assert figures["lexicon_share"] == pytest.approx(1 - 8 / 27)  # hi, said, end, said, hello and ran are unknown


def test_self_bleu_tells_one_text_from_many() -> None:
    assert self_bleu(["the cat sat on the mat today"] * 3) == pytest.approx(1.0)
    assert self_bleu(["the cat sat on the mat", "we walked home quickly after lunch", "birds sing loudly"]) < 0.3


def test_figures_stand_beside_human_ones_over_equally_many_words() -> None:
    card = score_card(["one two three four. " * 5], ["one two three four five six seven eight nine ten"], TRAINING)
    assert card["human"]["distinct_1"] == 1.0
    assert card["model"]["distinct_1"] == 0.4
    assert card["model"].keys() == card["human"].keys()
    assert "in_grammar" not in card["human"]
    with pytest.raises(DataError, match="words in them"):
        score_card(["..."], ["words"], TRAINING)


def test_built_in_stories_are_read_by_their_grammar() -> None:
    human = [write_story(0, index).text for index in range(6)]
    slips = [human[0], human[1][:-1], human[2].replace(write_story(0, 2).slots["hero"], "Lily", 1)]
    card = score_card(slips, human, TrainingText(human))
    assert card["human"]["in_grammar"] == 1.0
    assert card["model"]["in_grammar"] == pytest.approx(1 / 3)


def test_consistency_counts_the_cheaper_text() -> None:
    def longer_costs_more(texts: Iterable[str]) -> Iterator[Evaluation]:
        return (Evaluation(float(len(text)), 1, len(text)) for text in texts)

    pairs = [("good", "a", "bb"), ("half", "a", "bb"), ("good", "c", "dd"), ("half", "cc", "d")]
    assert consistency(longer_costs_more, pairs) == {"good": 1.0, "half": 0.5}
