"""One prompt through every backend, each in a process of its own, so that memory and times are its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinylm.backends import BACKENDS, open_backend
from tinylm.config import GenerateOptions
from tinylm.errors import ConfigError, TinyLMError
from tinylm.modelfile import read_model

__all__ = ["ComparisonRow", "compare_backends"]


@dataclass(frozen=True)
class ComparisonRow:
    """How one backend did. A backend that could not run says why in `error`; its figures are 0."""

    backend: str
    equal: str = ""  # "yes", "no, from character N", or "" for the first, with which the others are compared
    output_tokens: int = 0
    tokens_per_s: float = 0.0
    first_token_ms: float = 0.0
    load_ms: float = 0.0
    peak_mb: float = 0.0  # of the whole process, libraries included
    error: str = ""
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return asdict(self)


def compare_backends(
    path: Path, prompt: str, options: GenerateOptions, *, names: Sequence[str] | None = None, threads: int = 1
) -> list[ComparisonRow]:
    """Return one row per backend that continued `prompt` with the model file at `path`.

    Args:   names: of BACKENDS; all by default. The first that runs is the one that the others' text is compared with.
    Raises: ConfigError for an unknown name; DataError or FormatError for a model file that no backend could read.
    """
    for name in names or ():
        if name not in BACKENDS:
            raise ConfigError(f"backend: no backend is called {name!r}; known backends: {', '.join(BACKENDS)}")
    read_model(path)
    rows = [_in_own_process(name, path, prompt, options, threads) for name in names or BACKENDS]
    first = next((row for row in rows if not row.error), None)
    return [
        row if row.error or row is first or first is None else replace(row, equal=_equal(row, first)) for row in rows
    ]


def _equal(row: ComparisonRow, first: ComparisonRow) -> str:
    if row.text == first.text:
        return "yes"
    same = next((i for i, pair in enumerate(zip(row.text, first.text, strict=False)) if pair[0] != pair[1]), None)
    return f"no, from character {min(len(row.text), len(first.text)) if same is None else same}"


def _in_own_process(name: str, path: Path, prompt: str, options: GenerateOptions, threads: int) -> ComparisonRow:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, name, path, prompt, options, threads).result()
        except TinyLMError as error:
            return ComparisonRow(name, error=str(error))
        except BrokenProcessPool:
            return ComparisonRow(name, error="the process died; not enough memory?")


def _measure(name: str, path: Path, prompt: str, options: GenerateOptions, threads: int) -> ComparisonRow:
    started_s = time.perf_counter()
    backend = open_backend(name, path, threads=threads)
    load_s = time.perf_counter() - started_s
    backend.generate(prompt, options.model_copy(update={"max_new_tokens": 2}))  # warm-up: first-call costs
    made = backend.generate(prompt, options)
    backend.close()
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, kilobytes elsewhere
    return ComparisonRow(
        backend=name,
        output_tokens=len(made.token_ids),
        tokens_per_s=made.tokens_per_s,
        first_token_ms=1e3 * made.first_token_s,
        load_ms=1e3 * load_s,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6,
        text=made.text,
    )
