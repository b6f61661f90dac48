"""Choosing the next token in plain NumPy: the C++ engine's rules and random numbers, written to be read.

Order: repetition penalty, temperature, top-k, top-p, min-p; ties go to the smaller token id.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tinylm.config import GenerateOptions

__all__ = ["Sampler", "philox", "uniform"]

FloatArray = NDArray[np.float32]
_MASK32 = (1 << 32) - 1


class Sampler:
    """Chooses the tokens of one text; `sample` tells several texts of one prompt and seed apart."""

    def __init__(self, options: GenerateOptions, prompt: Iterable[int], sample: int = 0) -> None:
        self._options, self._sample = options, sample
        self._seen = set(prompt)

    def choose(self, logits: FloatArray, position: int) -> int:
        """Return the next token after the `position` tokens so far; `logits` is (V)."""
        options = self._options
        if options.repetition_penalty != 1:
            logits = self._penalised(logits)
        if options.temperature == 0:
            token = int(np.argmax(logits))
        else:
            token = self._draw(logits, uniform(options.seed, self._sample, position))
        self._seen.add(token)
        return token

    def _penalised(self, logits: FloatArray) -> FloatArray:
        """Divide positive logits of tokens seen before, multiply negative ones (CTRL, 1909.05858)."""
        penalty = np.float32(self._options.repetition_penalty)
        seen = sorted(self._seen)
        changed = logits.copy()
        changed[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        return changed

    def _draw(self, logits: FloatArray, random: float) -> int:
        options = self._options
        inverse = np.float32(1) / np.float32(options.temperature)
        weights = np.exp((logits - logits.max()) * inverse).astype(np.float64)  # the best token weighs 1
        if not 0 < options.top_k < len(logits) and options.top_p == 1 and options.min_p == 0:
            return _pick(weights, random)
        order = np.lexsort((np.arange(len(logits)), -logits))  # likeliest first, smaller ids first among equals
        if 0 < options.top_k < len(logits):
            order = order[: options.top_k]
        candidates = weights[order]
        before = np.cumsum(candidates) - candidates  # mass of all likelier ones
        dropped = candidates < np.float32(options.min_p)
        if options.top_p < 1:
            dropped |= before >= float(np.float32(options.top_p)) * candidates.sum()
        dropped[0] = False
        kept = int(np.argmax(dropped)) if dropped.any() else len(order)
        return int(order[_pick(candidates[:kept], random)])


def _pick(weights: NDArray[np.float64], random: float) -> int:
    """Return the first index at which the running sum passes the share `random` of the whole."""
    sums = np.cumsum(weights)
    return min(int(np.searchsorted(sums, random * sums[-1], side="right")), len(weights) - 1)


def uniform(seed: int, sample: int, position: int) -> float:
    """Return the engine's random number in [0, 1) for one position of one text: 53 bits."""
    words = philox((*_halves(position), *_halves(sample)), _halves(seed))
    return float(((words[0] << 32 | words[1]) >> 11) * 2.0**-53)


def _halves(value: int) -> tuple[int, int]:
    return value & _MASK32, value >> 32


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return four 32-bit random words: Philox4x32-10 of Salmon et al. 2011 (Random123)."""
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = ((b >> 32) ^ counter[1] ^ key[0], b & _MASK32, (a >> 32) ^ counter[3] ^ key[1], a & _MASK32)
        key = ((key[0] + 0x9E3779B9) & _MASK32, (key[1] + 0xBB67AE85) & _MASK32)
    return counter
