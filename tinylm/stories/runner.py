"""The bulk loop: rows are read, checked, generated and written at the same time, in bounded memory.

reader thread ─ rows ─► this thread: submit, collect, put in order ─ whole shards ─► writer thread
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tinylm.errors import DataError, EngineError
from tinylm.progress import ProgressReporter, Task
from tinylm.stories.assembly import Assembly
from tinylm.stories.job import RangeSummary
from tinylm.stories.lanes import Inlet, Outlet
from tinylm.stories.plan import JobPlan, plan_sources
from tinylm.stories.rows import Row, RowParser
from tinylm.stories.shards import Answer, check_rows, shard_name, shard_table, summarize, write_shard
from tinylm.stories.sources import job_records
from tinylm.stories.storage import Storage

if TYPE_CHECKING:
    from tinylm.engine import Completion, Request

__all__ = ["BulkEngine", "RunFigures", "row_parser", "run_shards"]

_CHUNK_ROWS = 32
_QUEUED_CHUNKS = 16
_QUEUED_SHARDS = 2
_POLL_S = 0.05
_SILENCE_S = 0.5  # a cancelled request ends within one step of the engine; after this long none is left
_REQUESTS_PER_SLOT = 2  # one running, one waiting: a slot never idles while Python is busy (chosen)


class BulkEngine(Protocol):
    """What the loop needs of an engine."""

    @property
    def info(self) -> Any:
        """Facts: replicas, max_batch, context_length, model_digest."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""

    def submit(self, request: Request) -> int:
        """Take a request without waiting; return its ticket."""

    def collect(self, timeout_s: float) -> list[Completion]:
        """Return finished requests, waiting for the first at most `timeout_s`."""

    def cancel(self, ticket: int) -> object:
        """Give a request up."""


@dataclass
class RunFigures:
    """What a run measured of itself."""

    slots: int = 1
    wall_s: float = 0.0
    busy_slot_s: float = 0.0
    prepare_cpu_s: float = 0.0
    feed_cpu_s: float = 0.0
    write_cpu_s: float = 0.0
    output_tokens: int = 0

    def __add__(self, other: RunFigures) -> RunFigures:
        """Return the figures of two runs side by side: CPU and slot seconds add up, the longer wall time counts."""
        return RunFigures(
            slots=max(self.slots, other.slots),
            wall_s=max(self.wall_s, other.wall_s),
            busy_slot_s=self.busy_slot_s + other.busy_slot_s,
            prepare_cpu_s=self.prepare_cpu_s + other.prepare_cpu_s,
            feed_cpu_s=self.feed_cpu_s + other.feed_cpu_s,
            write_cpu_s=self.write_cpu_s + other.write_cpu_s,
            output_tokens=self.output_tokens + other.output_tokens,
        )

    @property
    def occupancy(self) -> float:
        """Share of all slots' time that held a request."""
        return self.busy_slot_s / (self.wall_s * self.slots) if self.wall_s else 0.0


def row_parser(plan: JobPlan, engine: BulkEngine) -> RowParser:
    """Return the parser of the plan's rows; it knows how long a prompt may be for the engine's model."""
    context = engine.info.context_length
    try:
        longest = max(len(piece) for piece in engine.tokenizer.token_bytes())
    except EngineError:  # a model without a tokenizer reads bytes
        longest = 1
    return RowParser(plan.job, max_prompt_bytes=longest * context, context_length=context)


def run_shards(
    plan: JobPlan, numbers: Sequence[int], engine: BulkEngine, storage: Storage, progress: ProgressReporter
) -> tuple[RangeSummary, RunFigures]:
    """Generate and commit the shards `numbers` (ascending); return their counts and the run's figures.

    Whatever ends the run early (an error, KeyboardInterrupt), the shards committed so far stay and no
    temporary file does.
    Raises: DataError when the prompts changed since the plan; StageError on a full disk.
    """
    run = _Run(plan, numbers, engine, storage)
    with progress.task("stories", run.total_rows, "rows") as task:
        run.go(task)
    summary = sum((run.summaries[number] for number in sorted(run.summaries)), RangeSummary())
    return summary, run.figures


class _Run:
    def __init__(self, plan: JobPlan, numbers: Sequence[int], engine: BulkEngine, storage: Storage) -> None:
        from tinylm.engine import Request  # here, so that planning a job needs no built engine

        self._request = Request
        self._plan, self._numbers, self._engine, self._storage = plan, numbers, engine, storage
        self.total_rows = sum(len(plan.shard_rows(number)) for number in numbers)
        self.figures = RunFigures(slots=max(1, engine.info.replicas * engine.info.max_batch))
        self.summaries: dict[int, RangeSummary] = {}
        self._depth = self.figures.slots * _REQUESTS_PER_SLOT
        self._max_held_rows = 2 * plan.job.rows_per_shard + 16 * self.figures.slots
        self._assembly = Assembly(plan)
        self._in_flight: dict[int, tuple[Row, int]] = {}  # ticket to (row, sample)

    def go(self, task: Task) -> None:
        started_s, cpu_s = time.monotonic(), time.thread_time()
        inlet = Inlet("stories-reader", _chunks(self._rows()), _QUEUED_CHUNKS)
        self._outlet = Outlet("stories-writer", self._commit, _QUEUED_SHARDS)
        try:
            self._loop(inlet, task, started_s)
            self._outlet.close()
        finally:
            inlet.halt()
            self._outlet.halt()
            self._give_up()
        figures = self.figures
        figures.wall_s, figures.feed_cpu_s = time.monotonic() - started_s, time.thread_time() - cpu_s
        figures.prepare_cpu_s, figures.write_cpu_s = inlet.cpu_s, self._outlet.cpu_s
        if len(self.summaries) != len(self._numbers):
            raise DataError("prompts: the files changed while they were read; run the job again")

    def _loop(self, inlet: Inlet[list[Row]], task: Task, started_s: float) -> None:
        waiting: Iterator[Row] = iter(())
        more = True
        while more or self._in_flight:
            while more and self._has_room():
                row = next(waiting, None)
                if row is not None:
                    self._admit(row)
                    continue
                try:
                    chunk = inlet.get(wait=not self._in_flight)
                except queue.Empty:
                    break
                waiting, more = iter(chunk or ()), chunk is not None
            if self._in_flight:
                for completion in self._engine.collect(_POLL_S):
                    self._take(completion)
            self._show(task, time.monotonic() - started_s)

    def _has_room(self) -> bool:
        return len(self._in_flight) < self._depth and self._assembly.rows_held < self._max_held_rows

    def _rows(self) -> Iterator[Row]:
        parser, sources = row_parser(self._plan, self._engine), plan_sources(self._plan)
        for first, last in _runs(self._numbers):
            rows = range(self._plan.shard_rows(first).start, self._plan.shard_rows(last).stop)
            records = job_records(sources, self._plan.inputs, self._plan.job.max_row_bytes, rows.start)
            for index, record in islice(records, len(rows)):
                yield parser.parse(index, record)

    def _admit(self, row: Row) -> None:
        self._assembly.expect(row)
        for sample in range(row.samples):
            if row.error is None and row.prompt is not None:
                ticket = self._engine.submit(self._request(row.prompt, row.options, sample))
                self._in_flight[ticket] = row, sample
            else:
                self._answer(row, sample, "", "invalid_input", 0, 0, row.error)

    def _take(self, completion: Completion) -> None:
        if completion.ticket not in self._in_flight:  # of a job that was interrupted on the same engine
            return
        row, sample = self._in_flight.pop(completion.ticket)
        self.figures.busy_slot_s += (completion.finished_ns - completion.started_ns) * 1e-9
        self.figures.output_tokens += completion.output_tokens
        self._answer(
            row,
            sample,
            completion.text,
            completion.finish_reason,
            completion.prompt_tokens,
            completion.output_tokens,
            completion.error,
        )

    def _answer(
        self, row: Row, sample: int, text: str, reason: str, prompt_tokens: int, output_tokens: int, error: str | None
    ) -> None:
        answer = Answer(
            row.id, row.index, sample, row.prompt, text, reason, prompt_tokens, output_tokens,
            row.options.seed, error, self._plan.model_digest,
        )  # fmt: skip
        shard = self._assembly.add(answer)
        if shard is not None:
            self._outlet.put(shard)

    def _commit(self, shard: tuple[int, list[Answer]]) -> None:
        number, answers = shard
        table = shard_table(answers, self._plan.stamp)

        def write(path: Path) -> None:
            write_shard(path, table)

        self._storage.commit(shard_name(number), write, lambda path: check_rows(path, len(answers)))
        self.summaries[number] = summarize(answers)

    def _show(self, task: Task, elapsed_s: float) -> None:
        slot_s = elapsed_s * self.figures.slots
        task.update(
            self._assembly.rows_answered,
            tokens_s=self.figures.output_tokens / elapsed_s if elapsed_s else 0.0,
            occupancy=self.figures.busy_slot_s / slot_s if slot_s else 0.0,
        )

    def _give_up(self) -> None:
        """After an early end: cancel what is in flight, so that the engine can be used again.

        Ctrl-C inside `collect` loses what that call had in hand: those requests never come back, so silence ends it.
        """
        for ticket in self._in_flight:
            self._engine.cancel(ticket)
        heard_s = time.monotonic()
        while self._in_flight and time.monotonic() - heard_s < _SILENCE_S:
            for completion in self._engine.collect(_POLL_S):
                heard_s = time.monotonic()
                self._in_flight.pop(completion.ticket, None)


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        yield chunk


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each stretch of consecutive numbers."""
    first = last = None
    for number in numbers:
        if first is not None and last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last
