"""ONNX Runtime GenAI: static batches of 32 for bulk."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from harness import Generate, Prompts, serve

BATCH = 32


def load(job: dict[str, Any]) -> Generate:
    """Return a generator over the folder that the model builder wrote; the thread count goes into its settings."""
    settings_file = Path(job["model"]) / "genai_config.json"
    settings = json.loads(settings_file.read_text())
    settings["model"]["decoder"].setdefault("session_options", {})["intra_op_num_threads"] = job["threads"]
    settings_file.write_text(json.dumps(settings))
    genai = importlib.import_module("onnxruntime_genai")
    numpy = importlib.import_module("numpy")
    model = genai.Model(job["model"])

    def generate(prompts: Prompts, new_tokens: int) -> int:
        made = 0
        for at in range(0, len(prompts), BATCH):
            chunk = prompts[at : at + BATCH]
            width = max(map(len, chunk))
            length = width + new_tokens
            params = genai.GeneratorParams(model)
            params.set_search_options(
                batch_size=len(chunk),
                min_length=length,
                max_length=length,
                do_sample=True,
                temperature=0.8,
                top_k=40,
                top_p=0.95,
            )
            generator = genai.Generator(model, params)
            generator.append_tokens(
                numpy.array([[0] * (width - len(prompt)) + list(prompt) for prompt in chunk], dtype=numpy.int32)
            )
            for _ in range(new_tokens):
                generator.generate_next_token()
            made += new_tokens * len(chunk)
        return made

    return generate


if __name__ == "__main__":
    serve(load)
