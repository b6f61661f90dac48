"""The workloads that engines are compared on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinylm.bench.models import macs_of_work
from tinylm.config import ModelConfig

__all__ = ["WORKLOADS", "Workload"]

_FIRST_WORD = 259  # token ids below are control tokens and bytes


@dataclass(frozen=True)
class Workload:
    """One workload: how many prompts of which length, how many new tokens; in bulk, or one prompt after another."""

    name: str
    label: str
    prompts: int
    shortest: int
    longest: int
    new_tokens: int
    bulk: bool
    threads: int

    def token_ids(self, vocab_size: int, seed: int) -> list[list[int]]:
        """Return the prompts, the same for every engine of a round."""
        rng = np.random.Generator(np.random.Philox(seed))
        lengths = rng.integers(self.shortest, self.longest + 1, self.prompts)
        drawn: list[list[int]] = [rng.integers(_FIRST_WORD, vocab_size, length).tolist() for length in lengths]
        return drawn

    def macs(self, config: ModelConfig, seed: int) -> int:
        """Return the multiply-accumulates with weights of these prompts' reading and of every new token but the last.

        The last token is drawn and never read; logits are needed of new tokens alone.
        """
        read = sum(map(len, self.token_ids(config.vocab_size, seed))) + self.prompts * (self.new_tokens - 1)
        return macs_of_work(config, positions=read, logits=self.prompts * self.new_tokens)


WORKLOADS = (
    # Several prompts: one takes a quick engine some 25 ms (W1) or 5 (W3), and a neighbour's burst can double either.
    # W3 has the most, since a shared machine can take the first tenths of a second to give both cores.
    Workload("W1-1", "one stream, 200 tokens, 1 thread", 4, 8, 8, 200, False, 1),
    Workload("W1-2", "one stream, 200 tokens, 2 threads", 4, 8, 8, 200, False, 2),
    Workload("W2", "bulk, 256 prompts, 200 tokens each, 2 threads", 256, 4, 16, 200, True, 2),
    Workload("W3", "prompt of 200 tokens to the first token, 2 threads", 60, 200, 200, 1, False, 2),
)
