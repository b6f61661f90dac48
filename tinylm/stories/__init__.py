"""Bulk stories: any prompts file, exactly once, resumable, from one core to a cluster.

Must not know: Prefect, the terminal, how the engine computes. It reads rows, keeps the engine's slots
full, and commits whole shards.
"""

from __future__ import annotations

from tinylm.stories.chat import Chat
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
from tinylm.stories.job import GenerateJob, JobSummary, RangeSummary
from tinylm.stories.page import job_quality, write_stories_page
from tinylm.stories.plan import JobPlan, job_lock
from tinylm.stories.presets import PRESETS
from tinylm.stories.quality import Quality, TrainingText, measure_quality
from tinylm.stories.runner import RunFigures
from tinylm.stories.telling import generate_story, stream_story

__all__ = [
    "PRESETS",
    "Chat",
    "GenerateJob",
    "JobPlan",
    "JobSummary",
    "Quality",
    "RangeSummary",
    "RunFigures",
    "TrainingText",
    "finish_job",
    "generate_file",
    "generate_story",
    "job_engine",
    "job_lock",
    "job_quality",
    "job_summary",
    "measure_quality",
    "missing_shards",
    "plan_ranges",
    "run_range",
    "start_job",
    "stream_story",
    "write_stories_page",
]
