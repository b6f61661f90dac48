"""The C++ engine behind the backends' protocol: one replica, one text at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tinylm.backends.base import FloatArray, Generation
from tinylm.config import GenerateOptions
from tinylm.engine import load_engine
from tinylm.errors import DataError

__all__ = ["NativeBackend"]

_NS_PER_S = 1e9


class NativeBackend:
    """Runs a model file in whatever precision it holds."""

    name: ClassVar[str] = "native"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._engine = load_engine(path, replicas=1, threads_per_replica=threads, max_batch=1)

    def logits(self, tokens: Sequence[int]) -> FloatArray:
        """Return the scores (T, V) of the next token after each of `tokens`."""
        return self._engine.logits(list(tokens))

    def generate(self, prompt: str, options: GenerateOptions) -> Generation:
        """Return the continuation of `prompt`."""
        started_ns = time.monotonic_ns()
        completion = next(iter(self._engine.generate([prompt], options)))
        if completion.finish_reason not in ("stop", "length", "context_full"):
            raise DataError(completion.error or f"prompt: {completion.finish_reason}")
        return Generation(
            text=completion.text,
            token_ids=completion.token_ids,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            first_token_s=max(0, completion.first_token_ns - started_ns) / _NS_PER_S,
            total_s=(completion.finished_ns - started_ns) / _NS_PER_S,
        )

    def close(self) -> None:
        """Stop the engine and free its memory."""
        self._engine.close()
