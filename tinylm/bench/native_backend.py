"""The native engine under test."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tinylm.bench.backend import Outcome
from tinylm.bench.config import Seeds
from tinylm.config import GenerateOptions
from tinylm.engine import Completion, Request, load_engine

__all__ = ["NativeBackend"]

_PARTS = ("gemm", "attention", "head", "sampling", "rest")


class NativeBackend:
    """One loaded engine; request number i has the same prompt and sampling seed in every cell of a sweep."""

    def __init__(
        self,
        model: Path,
        *,
        replicas: int,
        threads: int,
        batch: int,
        isa: str,
        prompts: Sequence[str],
        options: GenerateOptions,
        seeds: Seeds,
    ) -> None:
        self._engine = load_engine(model, replicas=replicas, threads_per_replica=threads, max_batch=batch, isa=isa)
        self._slots = replicas * batch
        self._options, self._seeds = options, seeds
        self._prompts = [self._engine.encode(prompt) for prompt in prompts]
        self._rng = np.random.Generator(np.random.Philox(seeds.prompts))
        self._order: list[int] = []

    @property
    def slots(self) -> int:
        return self._slots

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def submit(self, index: int) -> None:
        options = self._options.model_copy(update={"seed": (self._seeds.sampling << 32) + index})
        self._engine.submit(Request(prompt=self._prompts[self._choose(index)], options=options, tag=index))

    def collect(self, timeout_s: float) -> list[Outcome]:
        return [_outcome(completion) for completion in self._engine.collect(timeout_s)]

    def facts(self) -> Mapping[str, object]:
        info = self._engine.info
        return {
            "isa": info.isa,
            "weights_bytes": info.weights_bytes,
            "kv_bytes": info.kv_bytes,
            "prefix_sharing": info.prefix_sharing,
        }

    def step_s(self) -> Mapping[str, float]:
        stats = self._engine.stats()
        return {part: getattr(stats, f"{part}_ns") / 1e9 for part in _PARTS}

    def close(self) -> None:
        self._engine.close()

    def _choose(self, index: int) -> int:
        """Deal the prompts like cards: each once per round, in an order of the prompt seed's own."""
        while len(self._order) <= index:
            self._order += self._rng.permutation(len(self._prompts)).tolist()
        return self._order[index]


def _outcome(completion: Completion) -> Outcome:
    tokens = np.asarray(completion.token_ids, dtype="<i4").tobytes()
    digest = int.from_bytes(hashlib.blake2b(tokens, digest_size=8).digest(), "little", signed=True)
    return Outcome(
        index=int(str(completion.tag)),
        started_ns=completion.started_ns,
        first_token_ns=completion.first_token_ns,
        finished_ns=completion.finished_ns,
        prompt_tokens=completion.prompt_tokens,
        output_tokens=completion.output_tokens,
        digest=digest,
        token_times_ns=completion.token_times_ns,
        error=completion.error,
    )
