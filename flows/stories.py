"""The flow `stories`: answers every row of a prompts file exactly once; a killed run goes on where it was."""

from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows._prefect import UiProgress, begin_run, open_store
from tinylm.artifacts import find_model
from tinylm.config import GenerateOptions, parse
from tinylm.errors import DataError
from tinylm.stories import GenerateJob, JobSummary, generate_file

__all__ = ["stories"]


@task(name="generate", cache_policy=NO_CACHE)
def generate(job: GenerateJob) -> JobSummary:
    """Write the stories of one job."""
    return generate_file(job, UiProgress())


@flow(name="stories")
def stories(
    prompts_file: Annotated[str, Field(description=".txt .jsonl .csv .parquet, .gz or .zst of these, glob or URL")],
    output: Annotated[str, Field(description="folder of shards, or one .parquet .jsonl .csv .txt file")],
    model: Annotated[str | None, Field(description="model file; none: the newest published one")] = None,
    samples: Annotated[int, Field(description="stories for each row", ge=1, le=1000)] = 1,
    options: Annotated[GenerateOptions, Field(description="how the text is sampled")] = GenerateOptions(),
    template: Annotated[str | None, Field(description="prompt with {column} places")] = None,
    replicas: Annotated[int | None, Field(description="engines beside each other; none: one per core", ge=1)] = None,
    max_batch: Annotated[int | None, Field(description="stories that a replica writes at a time", ge=1)] = None,
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
    summary = generate(parse(GenerateJob, settings, "stories"))
    figures = summary.model_dump(mode="json")
    create_table_artifact([{"what": name, "value": str(value)} for name, value in figures.items()], key="job")
    if summary.complaint:
        raise DataError(summary.complaint)
    return figures
