"""Bulk stories: any prompts file, exactly once, resumable, from one core to a cluster.

Must not know: Prefect, the terminal, how the engine computes. It reads rows, keeps the engine's slots
full, and commits whole shards.
"""

from __future__ import annotations

from tinylm.stories.generate import (
    finish_job,
    generate_file,
    job_engine,
    missing_shards,
    plan_ranges,
    run_range,
    start_job,
)
from tinylm.stories.job import GenerateJob, JobSummary, RangeSummary
from tinylm.stories.plan import JobPlan, job_lock

__all__ = [
    "GenerateJob",
    "JobPlan",
    "JobSummary",
    "RangeSummary",
    "finish_job",
    "generate_file",
    "job_engine",
    "job_lock",
    "missing_shards",
    "plan_ranges",
    "run_range",
    "start_job",
]
