"""Choosing the next token in plain NumPy: the engine's rules, written to be read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinylm.config import GenerateOptions

__all__ = ["Sampler"]


class Sampler:
    """Chooses the tokens of one text."""

    def __init__(self, options: GenerateOptions, prompt: list[int]) -> None:
        self._options = options
        self._seen = set(prompt)

    def choose(self, logits: NDArray[np.float32], position: int) -> int:
        """Return the token after the text so far; `position` counts new tokens from 0."""
        token = int(np.argmax(logits))
        self._seen.add(token)
        return token
