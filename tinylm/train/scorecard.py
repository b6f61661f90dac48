"""A score card for stories, without a judge model: the same figures for generated and for held-out human text.

No figure means anything alone: human text repeats training n-grams and leaves quotes open too. Read the gap.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tinylm.corpus.grammar import PLOTS
from tinylm.corpus.grammar.recognise import Recogniser
from tinylm.errors import DataError
from tinylm.scoring import Scorer

__all__ = ["TrainingText", "consistency", "form_figures", "score_card", "self_bleu"]

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’]*\s+")
_SPAN = 8  # words of the n-grams that memorisation is measured with
_BLEU_STORIES = 64  # self-BLEU compares all pairs; more stories only cost time
_FIRST = 4  # held-out texts that show whether all are built-in stories
_UNKNOWN = -1
_NO_SPAN = np.uint64(0)


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return _WORD.findall(text.lower())


class TrainingText:
    """The training split as word ids with an index of its 8-grams, to find what a story copies."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Read all texts once; about 20 bytes per word stay in memory."""
        self._ids: dict[str, int] = {}
        rows = [[self._ids.setdefault(word, len(self._ids)) for word in words(text)] + [_UNKNOWN] for text in texts]
        if not self._ids:
            raise DataError("score card: expected training text with words in it, found none")
        self._words = np.fromiter(chain.from_iterable(rows), np.int32)  # documents end with _UNKNOWN
        hashes = _span_hashes(self._words)
        order = np.argsort(hashes, kind="stable").astype(np.int64)
        self._places = order[np.searchsorted(hashes[order], _NO_SPAN, side="right") :]
        self._hashes = hashes[self._places]

    def knows(self, word: str) -> bool:
        """Return whether the training text has this word."""
        return word in self._ids

    def novel_spans(self, text: str) -> tuple[int, int]:
        """Return (8-grams of `text` that the training text lacks, all its 8-grams)."""
        hashes = _span_hashes(self._encode(text))
        # Two look-ups in the sorted index; np.isin would go through all of it for every story (1.4 s each).
        known = np.searchsorted(self._hashes, hashes, "right") > np.searchsorted(self._hashes, hashes, "left")
        return int((~known).sum()), len(hashes)

    def longest_copy(self, text: str) -> int:
        """Return the words in the longest span of `text` that stands in one training document; 0 below 8."""
        ids, longest = self._encode(text), 0
        hashes = _span_hashes(ids)
        low = np.searchsorted(self._hashes, hashes, side="left")
        high = np.searchsorted(self._hashes, hashes, side="right")
        for start in range(len(hashes)):
            longest = max(longest, self._extent(ids[start:], self._places[low[start] : high[start]]))
        return longest

    def _extent(self, ids: NDArray[np.int32], places: NDArray[np.int64]) -> int:
        length = 0
        while len(places) and length < len(ids) and ids[length] != _UNKNOWN:
            places = places[places + length < len(self._words)]
            places = places[self._words[places + length] == ids[length]]
            length += 1 if len(places) else 0
        return length if length >= _SPAN else 0

    def _encode(self, text: str) -> NDArray[np.int32]:
        return np.array([self._ids.get(word, _UNKNOWN) for word in words(text)], np.int32)


def score_card(
    stories: Sequence[str], human: Sequence[str], training: TrainingText, opening: str = "Once upon a time"
) -> dict[str, dict[str, float]]:
    """Return the figures of both sets by name: {"model": {...}, "human": {...}}.

    Counts that grow with the amount of text are taken over equally many words of both. Beside built-in stories,
    `in_grammar` is the share that the grammar could have written, to the letter, with no name or thing mixed up.
    Raises: DataError if either set has no words.
    """
    limit = min(sum(len(words(text)) for text in texts) for texts in (stories, human))
    if not limit:
        raise DataError("score card: expected stories and held-out text with words in them, found none")
    card = {
        name: _diversity(texts, limit) | form_figures(texts, training, opening) | _memorisation(texts, training)
        for name, texts in (("model", stories), ("human", human))
    }
    recogniser = Recogniser(PLOTS)
    if any(map(recogniser.could_write, human[:_FIRST])):  # only the built-in stories have a grammar to keep to
        for name, texts in (("model", stories), ("human", human)):
            card[name]["in_grammar"] = sum(map(recogniser.could_write, texts)) / len(texts)
    return card


def _diversity(texts: Sequence[str], limit: int) -> dict[str, float]:
    all_words = list(chain.from_iterable(words(text) for text in texts))[:limit]
    figures = {}
    for n in (1, 2, 3):
        grams = list(_grams(all_words, n))
        figures[f"distinct_{n}"] = len(set(grams)) / max(1, len(grams))
    return figures | {"self_bleu_4": self_bleu(texts[:_BLEU_STORIES])}


def form_figures(texts: Sequence[str], training: TrainingText, opening: str) -> dict[str, float]:
    """Return shares of well-formed stories and words, each in 0..1, and the mean length in words."""
    every = list(chain.from_iterable(words(text) for text in texts))
    sentences = [_SENTENCE_END.split(text.strip()) for text in texts]
    repeated = sum(len(parts) - len(set(parts)) for parts in sentences)
    count = len(texts)
    return {
        "words_per_story": len(every) / count,
        "opening_share": sum(text.lstrip().startswith(opening) for text in texts) / count,
        "lexicon_share": sum(map(training.knows, every)) / max(1, len(every)),
        "closed_quotes": sum(_quotes_close(text) for text in texts) / count,
        "closed_endings": sum(text.rstrip().endswith((".", "!", "?", '"', "”", "'")) for text in texts) / count,
        "repeated_sentences": repeated / max(1, sum(map(len, sentences))),
    }


def _memorisation(texts: Sequence[str], training: TrainingText) -> dict[str, float]:
    novel, total = (sum(column) for column in zip(*map(training.novel_spans, texts), strict=True))
    copies = [training.longest_copy(text) for text in texts]
    return {
        "novel_8_grams": novel / max(1, total),
        "longest_copy_words": float(max(copies)),
        "median_copy_words": float(np.median(copies)),
    }


def self_bleu(texts: Sequence[str]) -> float:
    """Return the mean BLEU-4 of each text against all others: 1 means that all are the same.

    Source: Zhu et al., 1802.01886; precisions smoothed by half a count, no brevity penalty.
    """
    tables = [[Counter(_grams(words(text), n)) for n in (1, 2, 3, 4)] for text in texts]
    if len(tables) < 2:
        return 0.0
    scores = []
    for i, table in enumerate(tables):
        precisions = []
        for n, counts in enumerate(table):
            best: Counter[tuple[str, ...]] = Counter()
            for j, other in enumerate(tables):
                if j != i:
                    best |= counts & other[n]
            precisions.append(max(best.total(), 0.5) / max(counts.total(), 1))
        scores.append(float(np.exp(np.mean(np.log(precisions)))))
    return float(np.mean(scores))


def consistency(scorer: Scorer, pairs: Iterable[tuple[str, str, str]]) -> dict[str, float]:
    """Return, per kind of minimal pair, the share in which the right text costs fewer nats; chance is 0.5.

    Args: pairs: (kind, right, wrong); the two texts differ in one place only.
    """
    kinds, right, wrong = zip(*pairs, strict=True)
    costs = [[score.nats for score in scorer(texts)] for texts in (right, wrong)]
    won: dict[str, list[bool]] = {}
    for kind, good, bad in zip(kinds, *costs, strict=True):
        won.setdefault(kind, []).append(good < bad)
    return {kind: sum(results) / len(results) for kind, results in won.items()}


def _grams(items: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(items[start:] for start in range(n)), strict=False)


def _quotes_close(text: str) -> bool:
    return text.count('"') % 2 == 0 and text.count("“") == text.count("”")


def _span_hashes(ids: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Return a 64-bit hash per 8-gram, `_NO_SPAN` where it has an unknown word or crosses a document's end."""
    if len(ids) < _SPAN:
        return np.empty(0, np.uint64)
    spread = (ids.astype(np.int64) + 2).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    spread ^= spread >> np.uint64(29)
    hashes = np.zeros(len(ids) - _SPAN + 1, np.uint64)
    for offset in range(_SPAN):
        hashes = hashes * np.uint64(0x100000001B3) + spread[offset : offset + len(hashes)]
    edges = np.lib.stride_tricks.sliding_window_view(ids == _UNKNOWN, _SPAN).any(axis=1)
    hashes[edges] = _NO_SPAN
    return hashes
