"""`generate_file`: one whole bulk job on this machine; and its parts, for work shared by many machines.

start_job (once) ─► run_range (anywhere, in any order, as often as need be) ─► finish_job (once)
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from tinylm.errors import StageError
from tinylm.progress import NullProgress, ProgressReporter
from tinylm.stories.job import GenerateJob, JobSummary, RangeSummary
from tinylm.stories.output import committed_summary, discard_work, publish_output
from tinylm.stories.plan import (
    JobPlan,
    check_rows_first,
    check_worker,
    finished_shards,
    job_lock,
    plan_job,
    prepare_output,
    shard_folder,
    single_format,
)
from tinylm.stories.runner import BulkEngine, RunFigures, row_parser, run_shards
from tinylm.stories.storage import DiskFullError, Storage, open_storage
from tinylm.stories.template import theme_template

__all__ = [
    "finish_job",
    "generate_file",
    "job_engine",
    "job_summary",
    "missing_shards",
    "plan_ranges",
    "run_range",
    "start_job",
]

_log = logging.getLogger(__name__)
_TEXT_FACTOR = 3  # a .jsonl or .csv file beside its zstd-packed shards, for stories of 200 tokens (measured)
_ROW_BYTES, _TOKEN_BYTES = 200, 2  # guess of a row's size on disk while no shard is written yet


def generate_file(
    job: GenerateJob, progress: ProgressReporter | None = None, *, engine: BulkEngine | None = None
) -> JobSummary:
    """Answer every row of the job's prompts exactly once; go on from where a killed run stopped.

    Args:    engine: one that is loaded already, which stays open; None loads `job.model`.
    Returns: the counts of the whole job and the figures of this run. Bad rows do not raise:
             `complaint` and `exit_code` of the summary tell of them.
    Raises:  ConfigError or DataError before any work, when the job cannot be done or the output is
             another job's; StageError on a full disk. On any early end the whole shards stay, and the
             same call goes on from there.
    """
    with job_engine(job, engine) as loaded, job_lock(job):
        plan = start_job(job, loaded)
        todo = missing_shards(plan)
        reused_rows = plan.rows - sum(len(plan.shard_rows(number)) for number in todo)
        _, figures = run_range(plan, todo, loaded, progress)
        return job_summary(plan, finish_job(plan), figures, reused_rows)


def job_engine(job: GenerateJob, engine: BulkEngine | None = None) -> AbstractContextManager[BulkEngine]:
    """Return `engine` as it is, or a new one for the job's model and run settings, closed at the end."""
    if engine is not None:
        return nullcontext(engine)
    from tinylm.engine import load_engine  # here, so that planning a job needs no built engine

    return load_engine(
        Path(job.model),
        replicas=job.replicas,
        threads_per_replica=job.threads_per_replica,
        max_batch=job.max_batch,
        isa=job.isa,
    )


def start_job(job: GenerateJob, engine: BulkEngine) -> JobPlan:
    """Return the job's plan and write its identity to the output; call it under `job_lock`.

    Raises: ConfigError when the output is another job's; DataError on missing prompts or, if strict, bad rows.
    """
    if job.themes and job.template is None:
        job = job.model_copy(update={"template": theme_template(engine.info.provenance)})
    plan = plan_job(job, engine.info.model_digest)
    if committed_summary(plan) is None:
        if job.strict:
            check_rows_first(plan, row_parser(plan, engine))
        with _full_disk_told(plan):
            prepare_output(plan, _shards(plan))
    return plan


def missing_shards(plan: JobPlan) -> list[int]:
    """Return the numbers of the shards still to be written, ascending."""
    if committed_summary(plan) is not None:
        return []
    done = finished_shards(plan, _shards(plan), range(plan.n_shards))
    if done:
        _log.info("going on: %d of %d shards are there", len(done), plan.n_shards)
    return [number for number in range(plan.n_shards) if number not in done]


def plan_ranges(plan: JobPlan, shards_per_range: int) -> list[tuple[int, ...]]:
    """Return the missing shards in groups of at most `shards_per_range`: one task's work each."""
    todo = missing_shards(plan)
    return [tuple(todo[start : start + shards_per_range]) for start in range(0, len(todo), shards_per_range)]


def run_range(
    plan: JobPlan, numbers: Sequence[int], engine: BulkEngine, progress: ProgressReporter | None = None
) -> tuple[RangeSummary, RunFigures]:
    """Write those of the shards `numbers` that are not there yet; two runs at once write the same bytes.

    Returns: the counts of the shards written now, and the run's figures.
    Raises:  ConfigError or DataError when this machine's version, model or prompts are not the plan's;
             StageError on a full disk, saying how much the job still needs.
    """
    check_worker(plan, engine.info.model_digest)
    storage = _shards(plan)
    done = finished_shards(plan, storage, numbers)
    todo = [number for number in numbers if number not in done]
    if not todo:
        return RangeSummary(), RunFigures()
    with _full_disk_told(plan):
        return run_shards(plan, todo, engine, storage, progress or NullProgress())


def finish_job(plan: JobPlan) -> RangeSummary:
    """Publish the output once every shard is there, and return the whole job's counts; call it under `job_lock`.

    Raises: StageError naming shards that are missing.
    """
    before = committed_summary(plan)
    storage = _shards(plan)
    if before is not None:
        discard_work(plan)
        return before
    done = finished_shards(plan, storage, range(plan.n_shards))
    if len(done) < plan.n_shards:
        missing = next(number for number in range(plan.n_shards) if number not in done)
        raise StageError(f"{plan.n_shards - len(done)} of {plan.n_shards} shards are missing, first {missing}")
    total = sum((done[number] for number in sorted(done)), RangeSummary())
    storage.sweep()  # what a killed worker had begun, while others went on
    with _full_disk_told(plan):
        publish_output(plan, storage, total)
    return total


def job_summary(plan: JobPlan, total: RangeSummary, figures: RunFigures, reused_rows: int) -> JobSummary:
    """Return the whole job's summary from its counts and one run's figures."""
    wall_s = figures.wall_s or 1.0
    return JobSummary(
        **total.model_dump(),
        output=plan.job.output,
        model_digest=plan.model_digest,
        shards=plan.n_shards,
        first_bad_place=None if total.first_bad_row is None else plan.place(total.first_bad_row),
        reused_rows=reused_rows,
        seconds_s=figures.wall_s,
        tokens_per_s=figures.output_tokens / wall_s,
        occupancy=figures.occupancy,
        prepare_share=figures.prepare_cpu_s / wall_s,
        feed_share=figures.feed_cpu_s / wall_s,
        write_share=figures.write_cpu_s / wall_s,
    )


def _shards(plan: JobPlan) -> Storage:
    return open_storage(shard_folder(plan.job.output))


@contextmanager
def _full_disk_told(plan: JobPlan) -> Iterator[None]:
    try:
        yield
    except DiskFullError as error:
        raise StageError(_disk_full(plan, error)) from error


def _disk_full(plan: JobPlan, error: DiskFullError) -> str:
    storage = _shards(plan)
    sizes = list(storage.sizes("part-").values())
    safe = f"{len(sizes)} of {plan.n_shards} shards are safe"
    if error.errno == errno.EFBIG:  # there may be any room on the disk
        return f"{error}: {safe}; raise the limit and run the same job again"
    if sizes:
        need_bytes = sum(sizes) // len(sizes) * (plan.n_shards - len(sizes))
    else:
        need_bytes = plan.rows * plan.job.samples * (_ROW_BYTES + _TOKEN_BYTES * plan.job.options.max_new_tokens)
    if (form := single_format(plan.job.output)) is not None:  # shards and the one file lie side by side for a while
        need_bytes += (need_bytes + sum(sizes)) * (1 if form == "parquet" else _TEXT_FACTOR)
    need_mb, free_mb = math.ceil(need_bytes / 1e5) / 10, error.free_bytes / 1e6
    return (
        f"{error}: the job needs about {need_mb:.1f} MB more, {free_mb:.1f} MB are free. "
        f"{safe}; free some space and run the same job again"
    )
