"""What the load generator drives: an asynchronous submit and collect, and a clock.

All times are nanoseconds of one steady clock (`time.monotonic_ns` and C++ `steady_clock` agree on Linux).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Backend", "Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished request, as the backend saw it."""

    index: int
    started_ns: int
    first_token_ns: int
    finished_ns: int
    prompt_tokens: int
    output_tokens: int
    digest: int = 0
    token_times_ns: Sequence[int] | NDArray[np.int64] = ()
    error: str | None = None

    def renumbered(self, index: int) -> Outcome:
        """Return the same outcome under another number."""
        return replace(self, index=index)


class Backend(Protocol):
    """One engine set-up under test."""

    @property
    def slots(self) -> int:
        """Requests that can be in service at once."""

    def now_ns(self) -> int:
        """Return the time on the backend's clock."""

    def submit(self, index: int) -> None:
        """Start request number `index` without waiting; the number alone fixes prompt and sampling seed."""

    def collect(self, timeout_s: float) -> list[Outcome]:
        """Return requests finished since the last call; wait for one at most `timeout_s`."""

    def facts(self) -> Mapping[str, object]:
        """Return what the set-up says of itself: instruction set, bytes of weights and caches."""

    def step_s(self) -> Mapping[str, float]:
        """Return seconds spent so far by part of a step; empty when the backend does not say."""

    def close(self) -> None:
        """Stop; unfinished requests are dropped."""
