"""Little stories for small children, written by rule: any number of them, no download, no two alike by design.

Story i of a seed is a function of (seed, i) alone. A plot fixes the course of events; the cast, the things in it
and the wording of each beat are drawn. Pronouns, articles and objects follow from the draws, so they always agree.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from tinylm.corpus.grammar.cast import draw_cast, pick
from tinylm.corpus.grammar.phrases import MACROS
from tinylm.corpus.grammar.plot import Plot
from tinylm.corpus.grammar.plots_animals import PLOTS as _ANIMALS
from tinylm.corpus.grammar.plots_days import PLOTS as _DAYS
from tinylm.corpus.grammar.plots_fables import PLOTS as _FABLES
from tinylm.corpus.grammar.plots_friends import PLOTS as _FRIENDS
from tinylm.corpus.grammar.plots_home import PLOTS as _HOME
from tinylm.corpus.grammar.plots_lessons import PLOTS as _LESSONS
from tinylm.corpus.grammar.plots_outside import PLOTS as _OUTSIDE
from tinylm.corpus.grammar.template import expand

__all__ = ["GRAMMAR_VERSION", "PLOTS", "Story", "write_story"]

GRAMMAR_VERSION = 7  # raise it when a word of any story changes: the corpus is rebuilt then

PLOTS: tuple[Plot, ...] = (*_HOME, *_FRIENDS, *_OUTSIDE, *_ANIMALS, *_DAYS, *_FABLES, *_LESSONS)


@dataclass(frozen=True, slots=True)
class Story:
    """One story and what it was made of."""

    text: str
    plot: str
    slots: dict[str, str]


def write_story(seed: int, index: int) -> Story:
    """Return story `index` of `seed`: the same on every machine."""
    key = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    rng = random.Random(int.from_bytes(key, "little"))
    plot = pick(PLOTS, rng)
    slots = draw_cast(plot.cast, rng)
    plot.fill(slots, MACROS, rng)
    return Story(expand(plot.nodes, slots, MACROS, rng), plot.name, slots)
