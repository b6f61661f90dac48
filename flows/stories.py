"""The flow `stories`: answers every row of a prompts file exactly once; a killed run goes on where it was.

With `runner` threads, dask or ray, the job's missing shards are cut into ranges, one task each. Every task
writes whole shards, so a lost worker costs its range's time and nothing else.
"""

import time
from typing import Annotated, Any, Literal

from prefect import Flow, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from flows._pages import show_job
from flows._prefect import UiProgress, begin_run, open_store
from tinylm.artifacts import find_model
from tinylm.config import GenerateOptions, Slots, Threads, parse
from tinylm.errors import ConfigError, DataError
from tinylm.stories.generate import (
    finish_job,
    generate_file,
    job_engine,
    job_summary,
    missing_shards,
    plan_ranges,
    run_range,
    start_job,
)
from tinylm.stories.job import GenerateJob, JobSummary
from tinylm.stories.plan import JobPlan, job_lock
from tinylm.stories.runner import RunFigures

__all__ = ["stories"]

Runner = Literal["local", "threads", "dask", "ray"]


@task(name="generate", cache_policy=NO_CACHE)
def generate(job: GenerateJob) -> JobSummary:
    """Write the stories of one job, all in this process."""
    return generate_file(job, UiProgress())


@task(name="generate-range", cache_policy=NO_CACHE, retries=2)
def generate_range(plan: JobPlan, numbers: tuple[int, ...]) -> RunFigures:
    """Write some of a job's shards, on whichever machine this task runs."""
    with job_engine(plan.job) as engine:
        return run_range(plan, numbers, engine)[1]


@flow(name="stories-ranges")
def generate_ranges(plan: JobPlan, ranges: list[tuple[int, ...]]) -> list[RunFigures]:
    """Write all ranges, at once as far as the task runner has workers."""
    return [future.result() for future in [generate_range.submit(plan, numbers) for numbers in ranges]]


def spread(job: GenerateJob, runner: Runner, workers: int, address: str | None, rows_per_task: int) -> JobSummary:
    """Write one job's stories as ranges on a task runner; the output is locked all the while."""
    with job_lock(job):
        with job_engine(job) as engine:
            plan = start_job(job, engine)
        missing = sum(len(plan.shard_rows(number)) for number in missing_shards(plan))
        ranges = plan_ranges(plan, max(1, rows_per_task // job.rows_per_shard))
        on_runner: Flow[Any, list[RunFigures]] = generate_ranges.with_options(
            task_runner=task_runner(runner, workers, address)
        )
        started_s = time.monotonic()
        figures = sum(on_runner(plan, ranges), RunFigures()) if ranges else RunFigures()
        figures.slots, figures.wall_s = figures.slots * workers, time.monotonic() - started_s
        return job_summary(plan, finish_job(plan), figures, plan.rows - missing)


def task_runner(runner: Runner, workers: int, address: str | None) -> TaskRunner[Any]:
    """Return the named runner: a new cluster of `workers` processes here, or the one at `address`.

    Raises: ConfigError when the runner's package is not installed.
    """
    try:
        if runner == "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
            dask: TaskRunner[Any] = DaskTaskRunner(address=address, cluster_kwargs=None if address else local)
            return dask
        if runner == "ray":
            from prefect_ray.task_runners import RayTaskRunner

            ray: TaskRunner[Any] = RayTaskRunner(address=address, init_kwargs={} if address else {"num_cpus": workers})
            return ray
    except ImportError as error:
        need = "pip install 'tinylm[distributed]'"
        raise ConfigError(f"runner {runner}: {error.name} is not installed; {need}") from None
    return ThreadPoolTaskRunner(max_workers=workers)


@flow(name="stories", flow_run_name="stories to {output}")
def stories(
    prompts_file: Annotated[str, Field(description=".txt .jsonl .csv .parquet, .gz or .zst of these, glob or URL")],
    output: Annotated[str, Field(description="folder of shards, or one .parquet .jsonl .csv .txt file; may be a URL")],
    model: Annotated[str | None, Field(description="model file; none: the newest published one")] = None,
    samples: Annotated[int, Field(description="stories for each row", ge=1, le=1000)] = 1,
    options: Annotated[GenerateOptions, Field(description="how the text is sampled")] = GenerateOptions(),
    template: Annotated[str | None, Field(description="prompt with {column} places")] = None,
    replicas: Annotated[Threads | None, Field(description="engines beside each other; none: one per core")] = None,
    max_batch: Annotated[Slots | None, Field(description="stories that a replica writes at a time")] = None,
    runner: Annotated[Runner, Field(description="local: one task; else ranges of shards as tasks")] = "local",
    workers: Annotated[int, Field(description="tasks at a time on a new local runner", ge=1)] = 2,
    address: Annotated[str | None, Field(description="of a running Dask scheduler or Ray head")] = None,
    rows_per_task: Annotated[int, Field(description="input rows in one range", ge=1)] = 20_000,
) -> dict[str, Any]:
    """One output row for each prompt and sample, bad rows included with their reason."""
    begin_run()
    settings = {
        "prompts": [prompts_file],
        "output": output,
        "model": str(find_model(open_store(), model)),
        "samples": samples,
        "options": options,
        "template": template,
        "replicas": replicas,
        "max_batch": max_batch,
    }
    job = parse(GenerateJob, settings, "stories")
    summary = generate(job) if runner == "local" else spread(job, runner, workers, address, rows_per_task)
    show_job(summary)
    if summary.complaint:
        raise DataError(summary.complaint)
    return summary.model_dump(mode="json")
