"""What audit cells ask: chosen requests again, and long prompts that are all alike or all unlike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tinylm.bench.backend import Backend, Outcome
from tinylm.bench.config import OPENINGS

__all__ = ["ChosenRequests", "audit_prompts"]

_PARTS, _PROMPTS = 5, 64


class ChosenRequests:
    """Another backend that is asked only for `indices`, in that order."""

    def __init__(self, inner: Backend, indices: Sequence[int]) -> None:
        self._inner, self._indices = inner, indices
        self._numbers = {index: number for number, index in enumerate(indices)}

    @property
    def slots(self) -> int:
        return self._inner.slots

    def now_ns(self) -> int:
        return self._inner.now_ns()

    def submit(self, index: int) -> None:
        self._inner.submit(self._indices[index])

    def collect(self, timeout_s: float) -> list[Outcome]:
        return [outcome.renumbered(self._numbers[outcome.index]) for outcome in self._inner.collect(timeout_s)]

    def facts(self) -> Mapping[str, object]:
        return self._inner.facts()

    def step_s(self) -> Mapping[str, float]:
        return self._inner.step_s()

    def close(self) -> None:
        self._inner.close()


def audit_prompts(kind: str) -> tuple[str, ...]:
    """Return long prompts of nearly one length: one prompt again and again for `same`, all different for `distinct`.

    Other kinds give none.
    """
    if kind not in ("same", "distinct"):
        return ()
    rng = np.random.Generator(np.random.Philox(0))
    prompts = [" ".join(OPENINGS[i] for i in rng.permutation(_PARTS).tolist()) for _ in range(_PROMPTS)]
    return tuple(prompts[:1] * _PROMPTS if kind == "same" else dict.fromkeys(prompts))
