"""Hugging Face transformers on PyTorch, left-padded batches; bfloat16 where the chip multiplies it, else float32."""

from __future__ import annotations

import importlib
from typing import Any

from harness import Generate, Prompts, serve

BATCH = 64


def load(job: dict[str, Any]) -> Generate:
    """Return a generator over a Hugging Face folder."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.set_num_threads(job["threads"])
    # Emulated bfloat16 is many times slower than float32, and nobody would run it.
    dtype = torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype).eval()

    def generate(prompts: Prompts, new_tokens: int) -> int:
        made = 0
        for at in range(0, len(prompts), BATCH):
            chunk = prompts[at : at + BATCH]
            width = max(map(len, chunk))
            ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in chunk])
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in chunk])
            with torch.inference_mode():
                out = model.generate(
                    ids,
                    attention_mask=mask,
                    do_sample=True,
                    temperature=0.8,
                    top_k=40,
                    top_p=0.95,
                    min_new_tokens=new_tokens,
                    max_new_tokens=new_tokens,
                    pad_token_id=0,
                )
            made += (out.shape[1] - width) * len(chunk)
        return made

    return generate


if __name__ == "__main__":
    serve(load)
