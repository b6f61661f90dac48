"""CTranslate2, int8: one worker per core for bulk, all threads in one worker for a single stream."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from harness import Generate, Prompts, serve


def load(job: dict[str, Any]) -> Generate:
    """Return a generator over the converted model folder."""
    ctranslate2 = importlib.import_module("ctranslate2")
    workers, each = (job["threads"], 1) if job["bulk"] else (1, job["threads"])
    engine = ctranslate2.Generator(
        job["model"], device="cpu", compute_type="int8", inter_threads=workers, intra_threads=each
    )
    vocabulary = json.loads((Path(job["model"]) / "vocabulary.json").read_text())

    def generate(prompts: Prompts, new_tokens: int) -> int:
        results = engine.generate_batch(
            [[vocabulary[token] for token in prompt] for prompt in prompts],
            max_batch_size=32,
            min_length=new_tokens,
            max_length=new_tokens,
            sampling_topk=40,
            sampling_topp=0.95,
            sampling_temperature=0.8,
            include_prompt_in_result=False,
            end_token=[],
        )
        return sum(len(result.sequences_ids[0]) for result in results)

    return generate


if __name__ == "__main__":
    serve(load)
