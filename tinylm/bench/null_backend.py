"""Backends that prove the harness: known service times on a real or a simulated clock, and a known delay."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping

import numpy as np

from tinylm.bench.backend import Backend, Outcome
from tinylm.bench.config import NullService

__all__ = ["DelayedBackend", "NullBackend"]

_DRAWS = 4096


class NullBackend:
    """`servers` identical servers, one queue, first come first served, service times drawn from a known law."""

    def __init__(self, service: NullService, servers: int, tokens: int = 8, seed: int = 0) -> None:
        self._service, self._tokens = service, tokens
        self._free_ns = [0] * servers
        self._busy: list[tuple[int, int, Outcome]] = []
        self._rng = np.random.Generator(np.random.Philox([service.seed, seed]))
        self._draws: list[int] = []
        self._simulated_ns = 0

    @property
    def slots(self) -> int:
        return len(self._free_ns)

    def now_ns(self) -> int:
        return self._simulated_ns if self._service.simulated else time.monotonic_ns()

    def submit(self, index: int) -> None:
        start_ns = max(self.now_ns(), heapq.heappop(self._free_ns))
        end_ns = start_ns + self._draw_ns()
        heapq.heappush(self._free_ns, end_ns)
        step_ns = (end_ns - start_ns) // self._tokens
        times = (*(start_ns + step_ns * i for i in range(1, self._tokens)), end_ns)
        outcome = Outcome(index, start_ns, times[0], end_ns, 4, self._tokens, index, times)
        heapq.heappush(self._busy, (end_ns, index, outcome))

    def collect(self, timeout_s: float) -> list[Outcome]:
        until_ns = self.now_ns() + int(timeout_s * 1e9)
        if self._busy:
            until_ns = min(until_ns, self._busy[0][0])
        self._wait(until_ns)
        done = []
        now_ns = self.now_ns()
        while self._busy and self._busy[0][0] <= now_ns:
            done.append(heapq.heappop(self._busy)[2])
        return done

    def facts(self) -> Mapping[str, object]:
        return {"isa": "none"}

    def step_s(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        self._busy.clear()

    def _wait(self, until_ns: int) -> None:
        if self._service.simulated:
            self._simulated_ns = max(self._simulated_ns, until_ns)
            return
        left_s = (until_ns - time.monotonic_ns()) / 1e9
        if left_s > 0:
            time.sleep(left_s)

    def _draw_ns(self) -> int:
        if not self._draws:
            self._draws = self._service_times_ns(_DRAWS)
        return self._draws.pop()

    def _service_times_ns(self, count: int) -> list[int]:
        mean_ns = self._service.mean_ms * 1e6
        if self._service.distribution == "constant":
            values = np.full(count, mean_ns)
        elif self._service.distribution == "exponential":
            values = self._rng.exponential(mean_ns, count)
        else:
            share, factor = self._service.slow_share, self._service.slow_factor
            fast_ns = mean_ns / (1 - share + share * factor)
            values = np.where(self._rng.random(count) < share, fast_ns * factor, fast_ns)
        return [max(1, int(value)) for value in values]


class DelayedBackend:
    """Another backend whose every answer comes `delay_ms` later: a slowdown of known size."""

    def __init__(self, inner: Backend, delay_ms: float) -> None:
        self._inner, self._delay_ns = inner, int(delay_ms * 1e6)
        self._late: list[tuple[int, int, Outcome]] = []

    @property
    def slots(self) -> int:
        return self._inner.slots

    def now_ns(self) -> int:
        return self._inner.now_ns()

    def submit(self, index: int) -> None:
        self._inner.submit(index)

    def collect(self, timeout_s: float) -> list[Outcome]:
        if self._late:
            timeout_s = min(timeout_s, max(0.0, (self._late[0][0] - self.now_ns()) / 1e9))
        for outcome in self._inner.collect(timeout_s):
            heapq.heappush(self._late, (outcome.finished_ns + self._delay_ns, outcome.index, self._delay(outcome)))
        done = []
        now_ns = self.now_ns()
        while self._late and self._late[0][0] <= now_ns:
            done.append(heapq.heappop(self._late)[2])
        return done

    def facts(self) -> Mapping[str, object]:
        return self._inner.facts()

    def step_s(self) -> Mapping[str, float]:
        return self._inner.step_s()

    def close(self) -> None:
        self._inner.close()

    def _delay(self, outcome: Outcome) -> Outcome:
        times = tuple(when + self._delay_ns for when in outcome.token_times_ns)
        return Outcome(
            outcome.index,
            outcome.started_ns,
            outcome.first_token_ns + self._delay_ns,
            outcome.finished_ns + self._delay_ns,
            outcome.prompt_tokens,
            outcome.output_tokens,
            outcome.digest,
            times,
            outcome.error,
        )
