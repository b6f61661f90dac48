"""When requests are due: closed-loop clients, or arrivals that wait for nobody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tinylm.bench.config import Load

__all__ = ["Source", "open_source"]

_CHUNK = 1024


class Source(Protocol):
    """Says which requests are due. Times are nanoseconds on the backend's clock."""

    def due(self, now_ns: int) -> list[int]:
        """Return the scheduled times, up to now, of requests not handed out yet."""

    def wait_s(self, now_ns: int) -> float:
        """Return the time until the next request is due; infinite when one must finish first."""

    def answered(self, now_ns: int) -> None:
        """Note that one request was answered."""


class ClosedLoop:
    """`clients` clients; each sends its next request when it holds the answer to the last."""

    def __init__(self, clients: int, begin_ns: int) -> None:
        self._ready_ns = [begin_ns] * clients

    def due(self, now_ns: int) -> list[int]:
        del now_ns
        ready_ns, self._ready_ns = self._ready_ns, []
        return ready_ns

    def wait_s(self, now_ns: int) -> float:
        del now_ns
        return math.inf

    def answered(self, now_ns: int) -> None:
        self._ready_ns.append(now_ns)


class OpenLoop:
    """Arrivals at a rate, Poisson or evenly spaced, whatever the backend does."""

    def __init__(self, rate_rps: float, poisson: bool, begin_ns: int, seed: Sequence[int]) -> None:
        self._gap_ns, self._poisson = 1e9 / rate_rps, poisson
        self._rng = np.random.Generator(np.random.Philox(list(seed)))
        self._last_ns = float(begin_ns)
        self._times_ns: list[int] = []
        self._refill()

    def due(self, now_ns: int) -> list[int]:
        times: list[int] = []
        while self._times_ns[-1] <= now_ns:
            times.append(self._times_ns.pop())
            if not self._times_ns:
                self._refill()
        return times

    def wait_s(self, now_ns: int) -> float:
        return max(0.0, (self._times_ns[-1] - now_ns) / 1e9)

    def answered(self, now_ns: int) -> None:
        del now_ns

    def _refill(self) -> None:
        gaps = self._rng.exponential(self._gap_ns, _CHUNK) if self._poisson else np.full(_CHUNK, self._gap_ns)
        times = self._last_ns + np.cumsum(gaps)
        self._last_ns = float(times[-1])
        self._times_ns = [int(value) for value in times[::-1]]


class Burst:
    """All requests at once, and none after."""

    def __init__(self, requests: int, begin_ns: int) -> None:
        self._times_ns = [begin_ns] * requests

    def due(self, now_ns: int) -> list[int]:
        del now_ns
        times_ns, self._times_ns = self._times_ns, []
        return times_ns

    def wait_s(self, now_ns: int) -> float:
        del now_ns
        return math.inf

    def answered(self, now_ns: int) -> None:
        del now_ns


def open_source(load: Load, rate_rps: float | None, begin_ns: int, seed: Sequence[int]) -> Source:
    """Return the source of `load`; `rate_rps` is the rate that a share of capacity came to."""
    if load.kind == "closed":
        return ClosedLoop(load.clients or 1, begin_ns)
    if load.kind == "offline":
        return Burst(load.requests or 1, begin_ns)
    return OpenLoop(rate_rps or load.rate_rps or 1.0, load.kind == "poisson", begin_ns, seed)
