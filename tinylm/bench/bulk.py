"""Does a bulk job keep up with the engine that it drives, and does its memory stay flat in the number of rows?

Each size runs in a process of its own. In it, the engine alone (workload W2) and the next few shards of the job take
turns, so that the machine's moods touch both; planning, reading and publishing count as the job's time.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import Field

from tinylm.bench.activity import Activity, Counters, peak_rss_bytes
from tinylm.bench.peers.adapters.harness import end_with_parent
from tinylm.bench.peers.workloads import WORKLOADS
from tinylm.config import Config, GenerateOptions
from tinylm.engine import Engine, load_engine
from tinylm.errors import DataError, StageError, TinyLMError, UserError
from tinylm.progress import ProgressReporter
from tinylm.stories.generate import finish_job, plan_ranges, run_range, start_job
from tinylm.stories.job import GenerateJob
from tinylm.stories.plan import job_lock
from tinylm.stories.presets import PRESETS
from tinylm.stories.runner import RunFigures

__all__ = ["BulkCell", "BulkFigures", "measure_cell", "run_bulk"]

OutT = TypeVar("OutT")
_W2 = next(workload for workload in WORKLOADS if workload.bulk)


class BulkCell(Config):
    """One job to measure."""

    model: Path
    openings: Path | None = Field(None, description="text file, one opening a line; None: those of the presets")
    rows: int = Field(gt=0)
    new_tokens: int = Field(_W2.new_tokens, gt=0, description="of each story, whose end is ignored")
    turn_rows: int = Field(5000, description="rows of the job between two turns of the engine")
    turn_s: float = Field(2.0, description="least length of the engine's turns; W2 is repeated until then")


class BulkFigures(Config):
    """What one job did, and the engine alone beside it."""

    rows: int
    job_tokens_per_s: float
    engine_tokens_per_s: float = Field(description="W2 on the same engine, all its turns together")
    share: float = Field(description="of the engine's tokens per second that the job reached")
    cpu_share: float = Field(description="the same per second of CPU time, where other processes matter less")
    turn_shares: tuple[float, ...] = Field(description="each turn of the job over the engine's turns around it")
    occupancy: float = Field(description="share of the engine's slot time that held a request of the job")
    feed_share: float = Field(description="CPU seconds of tokenising, submitting, collecting per second of the job")
    prepare_share: float = Field(description="of reading and checking rows, likewise")
    write_share: float = Field(description="of writing shards, likewise")
    peak_rss_bytes: int = Field(description="of the whole process")
    others_share: float = Field(description="share of the machine that other processes used meanwhile")


class _Turn(NamedTuple):
    """Tokens written in a stretch of time."""

    tokens: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Tokens per second of wall time."""
        return self.tokens / self.wall_s


def run_bulk(cells: Sequence[BulkCell], progress: ProgressReporter) -> Iterator[BulkFigures]:
    """Yield the figures of each cell, measured in a fresh process.

    Raises: StageError when a process fails, DataError when its input was bad; with the last line of what it said.
    """
    with progress.task("bulk", total=len(cells), unit="jobs") as task:
        for place, cell in enumerate(cells, 1):
            command = [sys.executable, "-m", "tinylm.bench.bulk", str(os.getpid())]
            done = subprocess.run(command, input=cell.model_dump_json(), capture_output=True, text=True, check=False)
            if done.returncode:
                said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                kind = DataError if done.returncode == UserError.exit_code else StageError
                raise kind(f"bulk job of {cell.rows:,} rows: {said[-1]}")
            task.update(place)
            yield BulkFigures.model_validate_json(done.stdout.splitlines()[-1])


def measure_cell(cell: BulkCell) -> BulkFigures:
    """Return the figures of one job, measured in this process."""
    before = Counters.read()
    with tempfile.TemporaryDirectory(prefix="tinylm-bulk-") as folder, load_engine(cell.model) as engine:
        job = _job(cell, Path(folder))
        _engine_turn(engine, cell.new_tokens, 0.0)  # first use is not in the figures
        with job_lock(job):
            plan, planned = _timed(partial(start_job, job, engine))
            alone, runs, turns = [_engine_turn(engine, cell.new_tokens, cell.turn_s)], list[RunFigures](), list[_Turn]()
            for numbers in plan_ranges(plan, max(1, cell.turn_rows // job.rows_per_shard)):
                (_, figures), spent = _timed(partial(run_range, plan, numbers, engine))
                runs.append(figures)
                turns.append(spent._replace(tokens=figures.output_tokens))
                alone.append(_engine_turn(engine, cell.new_tokens, cell.turn_s))
            _, published = _timed(partial(finish_job, plan))
    return _figures(cell.rows, alone, turns, [planned, published], runs, Activity.between(before, Counters.read()))


def _figures(
    rows: int,
    alone: Sequence[_Turn],
    turns: Sequence[_Turn],
    around: Sequence[_Turn],
    runs: Sequence[RunFigures],
    activity: Activity,
) -> BulkFigures:
    job, engine = _sum([*turns, *around]), _sum(alone)
    beside = [_sum(pair) for pair in itertools.pairwise(alone)]
    return BulkFigures(
        rows=rows,
        job_tokens_per_s=job.rate,
        engine_tokens_per_s=engine.rate,
        share=job.rate / engine.rate,
        cpu_share=job.tokens / job.cpu_s / (engine.tokens / engine.cpu_s),
        turn_shares=tuple(turn.rate / pair.rate for turn, pair in zip(turns, beside, strict=True)),
        occupancy=sum(run.busy_slot_s for run in runs) / sum(run.wall_s * run.slots for run in runs),
        feed_share=sum(run.feed_cpu_s for run in runs) / job.wall_s,
        prepare_share=sum(run.prepare_cpu_s for run in runs) / job.wall_s,
        write_share=sum(run.write_cpu_s for run in runs) / job.wall_s,
        peak_rss_bytes=peak_rss_bytes(),
        others_share=activity.others_share,
    )


def _job(cell: BulkCell, folder: Path) -> GenerateJob:
    """Return a job over the openings, again and again until there are `rows` of them."""
    if cell.openings is None:
        openings = [opening for name in sorted(PRESETS) for opening in PRESETS[name]]
    else:
        openings = _read_openings(cell.openings)
    prompts = folder / "prompts.txt"
    with prompts.open("w", encoding="utf-8") as file:
        file.writelines(f"{opening}\n" for opening in itertools.islice(itertools.cycle(openings), cell.rows))
    options = GenerateOptions(max_new_tokens=cell.new_tokens, ignore_eos=True)
    return GenerateJob(prompts=(str(prompts),), output=str(folder / "stories"), model=str(cell.model), options=options)


def _read_openings(path: Path) -> list[str]:
    """Return the lines of `path` that are not blank. Raises: DataError if it is no UTF-8 text, or has none."""
    try:
        openings = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"openings: {path}: cannot be read ({error.strerror}); name a text file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"openings: {path}: not UTF-8 at byte {error.start}; convert it, as with iconv") from None
    if not openings:
        raise DataError(f"openings: {path}: holds no line of text; expected one opening a line")
    return openings


def _engine_turn(engine: Engine, new_tokens: int, at_least_s: float) -> _Turn:
    """Run W2 on the engine alone until `at_least_s` have passed."""
    options = GenerateOptions(max_new_tokens=new_tokens, ignore_eos=True)
    spent = _Turn(0, 0.0, 0.0)
    for seed in itertools.count():
        prompts = _W2.token_ids(engine.info.vocab_size, seed)
        tokens, turn = _timed(partial(_generated, engine, prompts, options))
        spent = _sum([spent, turn._replace(tokens=tokens)])
        if spent.wall_s >= at_least_s:
            break
    return spent


def _generated(engine: Engine, prompts: Sequence[Sequence[int]], options: GenerateOptions) -> int:
    return sum(done.output_tokens for done in engine.generate(prompts, options, ordered=False))


def _timed(work: Callable[[], OutT]) -> tuple[OutT, _Turn]:
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    result = work()
    return result, _Turn(0, time.monotonic() - begin_s, time.process_time() - begin_cpu_s)


def _sum(turns: Sequence[_Turn]) -> _Turn:
    return _Turn(*(sum(column) for column in zip(*turns, strict=True)))


def main() -> None:
    """Read a cell, measure it, write its figures as the last line of standard output."""
    end_with_parent(int(sys.argv[1]))
    try:
        figures = measure_cell(BulkCell.model_validate_json(sys.stdin.read()))
    except TinyLMError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(figures.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
