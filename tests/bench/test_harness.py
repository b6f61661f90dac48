"""The load generator against backends whose behaviour is known: theory, delays, lateness."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from tinylm.bench.arrivals import open_source
from tinylm.bench.backend import Backend
from tinylm.bench.config import Load, NullService
from tinylm.bench.histograms import LatencyHistogram
from tinylm.bench.loadgen import Recording, Window, drive
from tinylm.bench.measure import cell_figures, cell_histograms
from tinylm.bench.null_backend import DelayedBackend, NullBackend

MEAN_MS = 10.0
MS = 1e6


def simulate(load: str, service: NullService, servers: int, requests: int = 30_000, seed: int = 1) -> Recording:
    backend = NullBackend(service, servers, tokens=2, seed=seed)
    source = open_source(Load.parse(load), None, 0, [seed])
    window = Window(warmup_s=20.0, min_duration_s=1.0, min_requests=requests, max_duration_s=math.inf, run_out_s=1e6)
    return drive(backend, source, window, 0)


def service(distribution: str) -> NullService:
    return NullService.model_validate({"distribution": distribution, "mean_ms": MEAN_MS, "simulated": True})


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that an arrival must wait in M/M/c (Erlang 1917)."""
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


def mean_queue_ms(distribution: str, servers: int, utilisation: float) -> float:
    rate = servers * utilisation / (MEAN_MS / 1000)
    recordings = [simulate(f"open:{rate:g}/s", service(distribution), servers, seed=seed) for seed in (1, 2)]
    values = [cell_histograms(recording)["queue"].mean_ns for recording in recordings]
    return float(np.mean(values)) / MS


@pytest.mark.parametrize(("servers", "utilisation"), [(1, 0.5), (2, 0.7), (4, 0.8)])
def test_waiting_time_matches_m_m_c(servers: int, utilisation: float) -> None:
    offered = servers * utilisation
    expected_ms = erlang_c(servers, offered) * MEAN_MS / (servers - offered)
    assert mean_queue_ms("exponential", servers, utilisation) == pytest.approx(expected_ms, rel=0.05)


@pytest.mark.parametrize("utilisation", [0.5, 0.8])
def test_waiting_time_matches_m_d_1(utilisation: float) -> None:
    expected_ms = utilisation * MEAN_MS / (2 * (1 - utilisation))
    assert mean_queue_ms("constant", 1, utilisation) == pytest.approx(expected_ms, rel=0.05)


def test_waiting_time_matches_pollaczek_khinchine_for_bimodal_service() -> None:
    utilisation, known = 0.5, service("bimodal")
    fast_ms = MEAN_MS / (1 - known.slow_share + known.slow_share * known.slow_factor)
    second_moment = (1 - known.slow_share) * fast_ms**2 + known.slow_share * (known.slow_factor * fast_ms) ** 2
    expected_ms = utilisation / MEAN_MS * second_moment / (2 * (1 - utilisation))
    assert mean_queue_ms("bimodal", 1, utilisation) == pytest.approx(expected_ms, rel=0.05)


def test_percentiles_of_m_m_1_response_time() -> None:
    utilisation = 0.5
    histogram = LatencyHistogram()
    for seed in (1, 2):
        histogram.merge(cell_histograms(simulate("open:50/s", service("exponential"), 1, seed=seed))["e2e"])
    for percentile in (50.0, 90.0, 99.0):
        expected_ms = -math.log(1 - percentile / 100) * MEAN_MS / (1 - utilisation)
        assert histogram.quantile_ns(percentile) / MS == pytest.approx(expected_ms, rel=0.05)


def test_closed_loop_throughput_and_occupancy() -> None:
    recording = simulate("closed:3", service("constant"), 2, requests=2_000)
    histograms = cell_histograms(recording)
    figures = cell_figures(recording, 2, histograms, open_load=False)
    assert figures["requests_per_s"] == pytest.approx(2 / (MEAN_MS / 1000), rel=0.01)
    assert figures["tokens_per_s"] == pytest.approx(2 * 2 / (MEAN_MS / 1000), rel=0.01)
    assert figures["occupancy"] == pytest.approx(1.0, abs=0.01)
    # Three clients on two servers: each request waits half a service time.
    assert histograms["queue"].mean_ns / MS == pytest.approx(MEAN_MS / 2, rel=0.02)


def test_overload_is_flagged_and_latency_counts_the_backlog() -> None:
    recording = simulate("fixed:150/s", service("constant"), 1, requests=500)
    histograms = cell_histograms(recording)
    assert "overloaded" in cell_figures(recording, 1, histograms, open_load=True)["flags"]
    # A generator that waited for the server would report about MEAN_MS for every request.
    assert histograms["e2e"].quantile_ns(50) > 100 * MEAN_MS * MS


class Stalling:
    """A backend whose host freezes for a while at one submission, as a garbage collector or a neighbour does."""

    def __init__(self, inner: NullBackend, every: int, stall_ns: int) -> None:
        self._inner, self._every, self._stall_ns, self._offset_ns = inner, every, stall_ns, 0
        self.slots = inner.slots
        self.collect, self.facts, self.step_s, self.close = inner.collect, inner.facts, inner.step_s, inner.close

    def now_ns(self) -> int:
        return self._inner.now_ns()

    def submit(self, index: int) -> None:
        if index % self._every == self._every - 1:
            self._inner._simulated_ns += self._stall_ns
        self._inner.submit(index)


def test_a_stalled_generator_is_late_and_the_run_void() -> None:
    backend: Backend = Stalling(NullBackend(service("constant"), 4, tokens=2), 100, 200_000_000)
    window = Window(warmup_s=0.0, min_duration_s=1.0, min_requests=2_000, max_duration_s=math.inf, run_out_s=1e6)
    recording = drive(backend, open_source(Load.parse("open:100/s"), None, 0, [1]), window, 0)
    histograms = cell_histograms(recording)
    assert "late-submission" in cell_figures(recording, 4, histograms, open_load=True)["flags"]
    # The stall is inside the latency, because it counts from the scheduled arrival.
    assert histograms["e2e"].quantile_ns(99) > 150 * MS


def test_real_clock_overhead_is_small() -> None:
    known = NullService(distribution="constant", mean_ms=20.0)
    backend = NullBackend(known, 2, tokens=4)
    window = Window(warmup_s=0.1, min_duration_s=0.6, min_requests=10, max_duration_s=5.0)
    begin_ns = backend.now_ns()
    recording = drive(backend, open_source(Load.parse("closed:2"), None, begin_ns, [1]), window, begin_ns)
    histograms = cell_histograms(recording)
    assert histograms["service"].quantile_ns(50) == pytest.approx(20 * MS, rel=0.01)
    assert 0.8 < cell_figures(recording, 2, histograms, open_load=False)["requests_per_s"] / 100 <= 1.001
    assert histograms["turnaround"].quantile_ns(50) < 3 * MS


def test_handicap_delays_every_answer_by_its_size() -> None:
    backend = DelayedBackend(NullBackend(service("constant"), 1, tokens=2), delay_ms=7.0)
    window = Window(warmup_s=0.0, min_duration_s=1.0, min_requests=50, max_duration_s=10.0)
    recording = drive(backend, open_source(Load.parse("closed:1"), None, 0, [1]), window, 0)
    assert cell_histograms(recording)["e2e"].quantile_ns(50) == pytest.approx((MEAN_MS + 7) * MS, rel=0.001)


def test_open_arrivals_have_the_rate_and_the_law_asked_for() -> None:
    def gaps(load: str) -> list[float]:
        source = open_source(Load.parse(load), None, 0, [9])
        times = source.due(int(200e9))
        return [(b - a) / 1e9 for a, b in itertools.pairwise(times)]

    poisson, fixed = gaps("open:50/s"), gaps("fixed:50/s")
    assert np.mean(poisson) == pytest.approx(0.02, rel=0.03)
    assert np.std(poisson) == pytest.approx(0.02, rel=0.05)
    assert np.std(fixed) < 1e-6
    assert len(fixed) == pytest.approx(10_000, abs=2)


SERVING = """
import os, threading
from tinylm.bench import worker
wait = threading.Event()
serving = threading.Thread(target=wait.wait, daemon=True)
serving.start()
worker._put_generator_first()
print(os.sched_getscheduler(serving.native_id) == os.SCHED_IDLE, os.sched_getscheduler(0) == os.SCHED_OTHER)
"""


def test_every_thread_but_the_generators_gives_way() -> None:
    done = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
