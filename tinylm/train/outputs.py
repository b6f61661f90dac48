"""What a run writes beside its weights: metric rows and sample stories, one JSON object per line."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tinylm.config import GenerateOptions
from tinylm.model import GPT, generate
from tinylm.tokenizer import Tokenizer

__all__ = ["JsonLines", "sample_stories"]


class JsonLines:
    """A file of JSON objects, one per line, each with its `step`."""

    def __init__(self, path: Path, last_step: int) -> None:
        """Open `path`, keeping only rows up to `last_step`: a resumed run writes the later ones again."""
        self._path = path
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            file.writelines(line + b"\n" for line in lines if _step(line) <= last_step)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def add(self, step: int, **values: object) -> None:
        """Append one row."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _step(line: bytes) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the last line of a killed run may be cut, within a letter even
        return float("inf")


def sample_stories(model: GPT, tokenizer: Tokenizer, prompt: str, count: int, seed: int) -> list[str]:
    """Return `count` stories that begin with `prompt`, at temperature 0.8."""
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    options = GenerateOptions(max_new_tokens=model.config.context_length, seed=seed)
    was_training = model.training
    model.eval()
    tokens = begin + tokenizer.encode(prompt)
    rows = generate(model, tokens, options, samples=count, eos_id=tokenizer.eos_id)
    model.train(was_training)
    return [prompt + tokenizer.decode(row) for row in rows]
