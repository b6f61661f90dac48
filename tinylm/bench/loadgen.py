"""The load generator: submits what is due, collects what is done, and remembers when.

A cell runs warm-up, window, and run-out. Requests *scheduled* inside the window are the measured ones. Load goes on
through the run-out until the last of them is answered, so none of them sees a machine emptier than the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tinylm.bench.arrivals import Source
from tinylm.bench.backend import Backend, Outcome

__all__ = ["Recording", "RequestRecord", "Window", "drive"]

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Window:
    """When a cell may stop: both minima reached, or `max_duration_s` gone."""

    warmup_s: float
    min_duration_s: float
    min_requests: int
    max_duration_s: float
    run_out_s: float = 30.0
    all_at_once: bool = False


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One answered request with the generator's own times beside the backend's."""

    scheduled_ns: int
    submitted_ns: int
    collected_ns: int
    outcome: Outcome


@dataclass(slots=True)
class Recording:
    """What one drive gathered; `records` holds warm-up and run-out requests too."""

    start_ns: int
    stop_ns: int = 0
    records: list[RequestRecord] = field(default_factory=list)
    arrived: int = 0
    unfinished: int = 0

    def measured(self) -> list[RequestRecord]:
        """Return the requests that were scheduled inside the window, in order of arrival."""
        inside = [r for r in self.records if self.start_ns <= r.scheduled_ns < self.stop_ns]
        return sorted(inside, key=lambda record: record.outcome.index)


class _Drive:
    def __init__(self, backend: Backend, source: Source, window: Window, begin_ns: int) -> None:
        self.backend, self.source, self.window = backend, source, window
        self.recording = Recording(start_ns=begin_ns + int(window.warmup_s * 1e9))
        self.pending: dict[int, tuple[int, int]] = {}
        self.next_index = 0
        self.measured_done = self.measured_open = 0

    def step(self) -> None:
        """Wait for the next answer or arrival, then submit what is due."""
        now_ns = self.backend.now_ns()
        for outcome in self.backend.collect(min(self.source.wait_s(now_ns), _POLL_S)):
            self._note(outcome, self.backend.now_ns())
        self.submit_due()

    def submit_due(self) -> None:
        for scheduled_ns in self.source.due(self.backend.now_ns()):
            self.pending[self.next_index] = (scheduled_ns, self.backend.now_ns())
            self.measured_open += self._in_window(scheduled_ns)
            self.backend.submit(self.next_index)
            self.next_index += 1

    def window_over(self, now_ns: int) -> bool:
        if self.window.all_at_once:
            return not self.pending
        elapsed_s = (now_ns - self.recording.start_ns) / 1e9
        enough = elapsed_s >= self.window.min_duration_s and self.measured_done >= self.window.min_requests
        return enough or elapsed_s >= self.window.max_duration_s

    def _note(self, outcome: Outcome, now_ns: int) -> None:
        scheduled_ns, submitted_ns = self.pending.pop(outcome.index)
        self.recording.records.append(RequestRecord(scheduled_ns, submitted_ns, now_ns, outcome))
        if self._in_window(scheduled_ns):
            self.measured_done += 1
            self.measured_open -= 1
        self.source.answered(now_ns)

    def _in_window(self, scheduled_ns: int) -> bool:
        stop_ns = self.recording.stop_ns
        return scheduled_ns >= self.recording.start_ns and (not stop_ns or scheduled_ns < stop_ns)


def drive(
    backend: Backend, source: Source, window: Window, begin_ns: int, at_edge: Callable[[], None] = lambda: None
) -> Recording:
    """Return the recording of one cell: `source` applied to `backend` until `window` allows a stop.

    Args: begin_ns: when the source begins; the window opens `warmup_s` later.
          at_edge: called as the window opens and as it closes, to read counters of the machine.
    """
    run = _Drive(backend, source, window, begin_ns)
    recording = run.recording
    run.submit_due()
    while backend.now_ns() < recording.start_ns:
        run.step()
    at_edge()
    while not run.window_over(backend.now_ns()):
        run.step()
    recording.stop_ns = backend.now_ns() + 1  # a request due this very moment is inside
    at_edge()
    give_up_ns = recording.stop_ns + int(window.run_out_s * 1e9)
    while run.measured_open and backend.now_ns() < give_up_ns:
        run.step()
    recording.unfinished = run.measured_open
    recording.arrived = len(recording.measured()) + recording.unfinished
    return recording
