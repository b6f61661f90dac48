"""llama.cpp, Q8_0, through the C interface: up to 32 sequences in one batch, one sampler chain each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from harness import Generate, Prompts, serve

BATCH = 32


class Decoder:
    """One context that continues up to BATCH prompts side by side."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.api = api = importlib.import_module("llama_cpp")
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(job["model"].encode(), api.llama_model_default_params())
        params = api.llama_context_default_params()
        self.batch = BATCH if job["bulk"] else 1
        params.n_seq_max = self.batch
        params.n_ctx = self.batch * 256
        params.n_threads = params.n_threads_batch = job["threads"]
        self.context = api.llama_init_from_model(self.model, params)
        self.room = api.llama_batch_init(512, 0, 1)
        self.samplers = [self._sampler(seed) for seed in range(self.batch)]

    def _sampler(self, seed: int) -> Any:
        api = self.api
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        for part in (
            api.llama_sampler_init_top_k(40),
            api.llama_sampler_init_top_p(0.95, 1),
            api.llama_sampler_init_temp(0.8),
            api.llama_sampler_init_dist(seed),
        ):
            api.llama_sampler_chain_add(chain, part)
        return chain

    def run(self, prompts: Prompts, new_tokens: int) -> int:
        """Continue at most BATCH prompts by `new_tokens` each; returns the tokens made."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        last = [self._prefill(sequence, prompt) for sequence, prompt in enumerate(prompts)]
        for step in range(1, new_tokens):
            rows = [(token, len(prompts[i]) + step - 1, i, True) for i, token in enumerate(last)]
            self._decode(rows)
            last = [self.api.llama_sampler_sample(self.samplers[i], self.context, i) for i in range(len(prompts))]
        return new_tokens * len(prompts)

    def _prefill(self, sequence: int, prompt: Sequence[int]) -> int:
        end = len(prompt) - 1
        self._decode([(token, at, sequence, at == end) for at, token in enumerate(prompt)])
        return int(self.api.llama_sampler_sample(self.samplers[sequence], self.context, -1))

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        room = self.room
        room.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            room.token[i], room.pos[i], room.n_seq_id[i] = token, position, 1
            room.seq_id[i][0], room.logits[i] = sequence, wanted
        if self.api.llama_decode(self.context, room):
            raise RuntimeError("llama_decode failed")


def load(job: dict[str, Any]) -> Generate:
    """Return a generator over a GGUF file."""
    decoder = Decoder(job)

    def generate(prompts: Prompts, new_tokens: int) -> int:
        chunks = [prompts[at : at + decoder.batch] for at in range(0, len(prompts), decoder.batch)]
        return sum(decoder.run(chunk, new_tokens) for chunk in chunks)

    return generate


if __name__ == "__main__":
    serve(load)
