"""One judge for every scorer: nats per token and bits per byte over whole documents.

A document costs BOS -> first token ... -> EOS, in windows of the model's context without overlap; the first
window starts at BOS, later ones go on in the middle with no context before them. EOS is part of the cost, BOS
is not; bytes are the document's UTF-8 bytes. Bits per byte = nats / ln 2 / bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tinylm.errors import DataError

__all__ = ["Evaluation", "Score", "Scorer", "evaluate"]


class Score(Protocol):
    """What one text costs a model."""

    @property
    def nats(self) -> float:
        """Sum of -ln p over the text's tokens and EOS."""

    @property
    def tokens(self) -> int:
        """Tokens predicted, EOS included."""

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the text."""


Scorer = Callable[[Iterable[str]], Iterable[Score]]  # `engine.score` is one, the trainer's `TorchScorer` another


@dataclass(frozen=True)
class Evaluation:
    """What a set of texts costs a model; also the `Score` of a single text."""

    nats: float
    tokens: int
    bytes: int

    @property
    def nats_per_token(self) -> float:
        """Mean cost of a token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Cost in bits of one byte of text: comparable across tokenizers."""
        return self.nats / math.log(2) / self.bytes

    def as_dict(self) -> dict[str, float]:
        """Return counts and rates as plain JSON values."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "nats_per_token": self.nats_per_token,
            "nats": self.nats,
            "tokens": self.tokens,
            "bytes": self.bytes,
        }


def evaluate(scorer: Scorer, texts: Iterable[str]) -> Evaluation:
    """Return what `texts` cost under `scorer`.

    Raises: DataError if there is no text at all.
    """
    nats, tokens, size = 0.0, 0, 0
    for score in scorer(texts):
        nats, tokens, size = nats + score.nats, tokens + score.tokens, size + score.bytes
    if not size:
        raise DataError("evaluation: expected at least one byte of text, found none")
    return Evaluation(nats, tokens, size)
