"""OpenVINO GenAI, int8 weights: continuous batching for bulk and for a single stream."""

from __future__ import annotations

import importlib
from typing import Any

from harness import Generate, Prompts, serve


def load(job: dict[str, Any]) -> Generate:
    """Return a generator over the converted model folder."""
    genai, openvino = importlib.import_module("openvino_genai"), importlib.import_module("openvino")
    numpy = importlib.import_module("numpy")
    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs = 64
    scheduler.cache_size = 1
    properties = {"INFERENCE_NUM_THREADS": job["threads"]}
    pipeline = genai.ContinuousBatchingPipeline(job["model"], scheduler, "CPU", properties)

    def generate(prompts: Prompts, new_tokens: int) -> int:
        options = genai.GenerationConfig()
        options.max_new_tokens = options.min_new_tokens = new_tokens
        options.ignore_eos = options.do_sample = True
        options.temperature, options.top_k, options.top_p = 0.8, 40, 0.95
        tensors = [openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)) for prompt in prompts]
        results = pipeline.generate(tensors, [options] * len(tensors))
        return sum(len(result.m_generation_ids[0]) for result in results)

    return generate


if __name__ == "__main__":
    serve(load)
