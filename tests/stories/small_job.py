"""A small bulk job over lines of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinylm.stories.job import GenerateJob


def job_for(folder: Path, output: str = "shards", rows: int = 230, **settings: Any) -> GenerateJob:
    prompts = folder / "prompts.txt"
    if not prompts.exists():
        prompts.write_text("".join(f"Story {row}\n" for row in range(rows)))
    return GenerateJob(prompts=(str(prompts),), output=str(folder / "out" / output), **{"shard_rows": 20, **settings})
