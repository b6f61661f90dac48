"""TinyLM itself, through its public API."""

from __future__ import annotations

import sys
from typing import Any

from harness import Generate, Prompts, serve


def load(job: dict[str, Any]) -> Generate:
    """Return a generator: replicas of one thread for bulk, one replica of all threads for a single stream."""
    sys.path.insert(0, job["import_from"])
    from tinylm.config import GenerateOptions
    from tinylm.engine import load_engine

    threads = job["threads"]
    replicas, each, slots = (threads, 1, None) if job["bulk"] else (1, threads, 1)
    engine = load_engine(job["model"], replicas=replicas, threads_per_replica=each, max_batch=slots)

    def generate(prompts: Prompts, new_tokens: int) -> int:
        options = GenerateOptions(
            max_new_tokens=new_tokens, temperature=0.8, top_k=40, top_p=0.95, ignore_eos=True, seed=1
        )
        return sum(done.output_tokens for done in engine.generate(prompts, options, ordered=False))

    return generate


if __name__ == "__main__":
    serve(load)
