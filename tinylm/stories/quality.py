"""How good a job's stories are, in figures that need no second model: variety, endings, repeats, copying."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tinylm.config import Config

__all__ = ["COPY_WORDS", "Quality", "TrainingText", "measure_quality"]

COPY_WORDS = 13  # words in a row that count as copied: the usual length of contamination checks (GPT-3, 2005.14165)
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE = re.compile(r"[^.!?]+[.!?]+")
_ENDING = re.compile(r"[.!?…][\"'”’)\]]*\s*$")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing


class Quality(Config):
    """Figures over a set of stories; a share of nothing is None."""

    stories: int
    words_per_story: float | None = Field(None, description="mean")
    distinct_1: float | None = Field(None, description="different words per word; falls as more stories are pooled")
    distinct_2: float | None = Field(None, description="different word pairs per word pair")
    distinct_3: float | None = Field(None, description="different word triples per word triple")
    ended_share: float | None = Field(None, description="stories that end with a full stop, ! or ?")
    repeated_sentence_rate: float | None = Field(None, description="sentences that stood before in their own story")
    same_story_share: float | None = Field(None, description="stories equal to an earlier one")
    copied_share: float | None = Field(None, description=f"runs of {COPY_WORDS} words found in the training text")
    most_copied_story: float | None = Field(None, description="largest copied_share of one story")


class TrainingText:
    """All runs of `COPY_WORDS` words of the training text, as hashes: 8 bytes for each word of it."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._ids: dict[str, int] = {}
        parts = [self._hashes(text) for text in texts]
        self._known = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)

    def copied(self, text: str) -> tuple[int, int]:
        """Return (runs of `text` that the training text holds, runs of `text`)."""
        hashes = self._hashes(text)
        if not len(hashes) or not len(self._known):
            return 0, len(hashes)
        places = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        return int(np.count_nonzero(self._known[places] == hashes)), len(hashes)

    def _hashes(self, text: str) -> npt.NDArray[np.uint64]:
        """uint64 (words - COPY_WORDS + 1,): a polynomial hash of each run of words."""
        words = _words(text)
        ids = np.array([self._ids.setdefault(word, len(self._ids) + 1) for word in words], np.uint64)
        n_runs = max(0, len(ids) - COPY_WORDS + 1)
        hashes = np.zeros(n_runs, np.uint64)
        for place in range(COPY_WORDS):
            hashes = hashes * _FACTOR + ids[place : place + n_runs]
            hashes ^= hashes >> np.uint64(29)
        return hashes


def measure_quality(stories: Sequence[str], training: TrainingText | None = None) -> Quality:
    """Return the figures of `stories` (the generated text, without the prompt)."""
    if not stories:
        return Quality(stories=0)
    n_words = sum(len(_words(story)) for story in stories)
    repeats = [_repeats(story) for story in stories]
    copies = [] if training is None else [training.copied(story) for story in stories]
    return Quality(
        stories=len(stories),
        words_per_story=n_words / len(stories),
        distinct_1=_distinct(stories, 1),
        distinct_2=_distinct(stories, 2),
        distinct_3=_distinct(stories, 3),
        ended_share=sum(bool(_ENDING.search(story)) for story in stories) / len(stories),
        repeated_sentence_rate=_ratio(sum(found for found, _ in repeats), sum(of for _, of in repeats)),
        same_story_share=1 - len(set(stories)) / len(stories),
        copied_share=_ratio(sum(found for found, _ in copies), sum(of for _, of in copies)),
        most_copied_story=max((found / of for found, of in copies if of), default=None),
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _distinct(stories: Iterable[str], n: int) -> float | None:
    seen: set[tuple[str, ...]] = set()
    total = 0
    for story in stories:
        runs = list(_runs(_words(story), n))
        seen.update(runs)
        total += len(runs)
    return _ratio(len(seen), total)


def _runs(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[place:] for place in range(n)), strict=False)


def _repeats(story: str) -> tuple[int, int]:
    """Return (sentences that stood before in the story, sentences)."""
    sentences = Counter(" ".join(_words(sentence)) for sentence in _SENTENCE.findall(story))
    total = sum(sentences.values())
    return total - len(sentences), total


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
