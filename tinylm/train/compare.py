"""Our recipe against a plain GPT-2 recipe: same text, tokenizer, judge, machine and minutes, runs interleaved.

The question: does our recipe reach the plain one's bits per byte in half the time? The plain recipe gets its
best of five learning rates and then of three batch sizes, tuned at its full budget's schedule, and everything of
ours that is not recipe: workers, chunked loss, precision. Run by `make bench-training`.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tinylm.config import ModelConfig
from tinylm.presets import preset
from tinylm.progress import ProgressReporter
from tinylm.train.checkpoint import write_json
from tinylm.train.config import TrainConfig
from tinylm.train.loop import train

__all__ = ["Comparison", "compare_recipes", "plain_gpt2"]

RATES = (0.001, 0.002, 0.004, 0.008, 0.016)
BATCHES_TOKENS = (4096, 2048, 1024)  # rates are tuned with the first


@dataclass(frozen=True)
class Comparison:
    """One finished run of one recipe."""

    recipe: str
    minutes: float
    seed: int
    rate: float
    batch_tokens: int
    bits_per_byte: float
    steps: int
    tokens_per_s: float
    train_s: float
    load: float  # the machine's one-minute load average at the end: a busy machine spoils the row


def plain_gpt2(minutes: float, rate: float, seed: int, batch_tokens: int = BATCHES_TOKENS[0]) -> TrainConfig:
    """Return the rival: GPT-2's layout at our width and depth, AdamW, warm-up, decay, clipping; nothing of ours."""
    ours = preset("story")
    shape = ModelConfig(
        vocab_size=ours.vocab_size,
        context_length=ours.context_length,
        n_layers=ours.n_layers,
        n_heads=ours.n_heads,
        n_kv_heads=ours.n_heads,
        d_model=ours.d_model,
        d_ff=4 * ours.d_model,
        norm="layernorm",
        position="learned",
        activation="gelu_tanh",
        bias=True,
        tied_embeddings=True,
    )
    return TrainConfig(
        model=shape,
        minutes=minutes,
        seed=seed,
        optimizer="adamw",
        matrix_lr=rate,
        embedding_lr=rate,
        vector_lr=rate,
        beta1=0.9,
        beta2=0.95,
        weight_decay=0.1,
        warmup_share=0.05,
        decay_share=0.95,
        final_lr=0.1,
        clip_norm=1.0,
        average=0.0,
        short_context=0,
        zero_projections=False,
        embedding_std=0.02,
        batch_tokens=batch_tokens,
    )


def compare_recipes(
    tokens_dir: Path, tokenizer: Path, out_dir: Path, minutes: float, seeds: Sequence[int], progress: ProgressReporter
) -> tuple[list[Comparison], list[str]]:
    """Return all runs (the rival's rates and batch sizes, then rival and ours for each seed) and what they say.

    Finished runs in `out_dir` are kept, so a stopped comparison goes on. Writes comparison.json there.
    """

    def run(name: str, config: TrainConfig) -> Comparison:
        return _run(name, config, tokens_dir, tokenizer, out_dir, progress)

    def quality(done: Comparison) -> float:
        return done.bits_per_byte

    runs = [run("plain", plain_gpt2(minutes, rate, seeds[0])) for rate in RATES]
    rate = min(runs, key=quality).rate
    runs += [run("plain", plain_gpt2(minutes, rate, seeds[0], batch)) for batch in BATCHES_TOKENS]
    best = min(runs, key=quality)
    for seed in seeds:
        plain = plain_gpt2(minutes, best.rate, seed, best.batch_tokens)
        ours = [TrainConfig(preset="story", minutes=share * minutes, seed=seed) for share in (1.0, 0.5)]
        runs += [run("ours", ours[0]), run("plain", plain), run("ours", ours[1])]
    runs = list(dict.fromkeys(runs))
    lines = summary_lines(runs, minutes, best)
    write_json(out_dir / "comparison.json", {"summary": lines, "runs": [asdict(each) for each in runs]})
    return runs, lines


def summary_lines(runs: Sequence[Comparison], minutes: float, best: Comparison) -> list[str]:
    """Return mean and spread over seeds of each recipe and budget, and the verdict; `best`: the rival's settings."""
    tuned = (best.recipe, best.rate, best.batch_tokens)
    groups = {
        "plain": [run.bits_per_byte for run in runs if (run.recipe, run.rate, run.batch_tokens) == tuned],
        "ours": [run.bits_per_byte for run in runs if run.recipe == "ours" and run.minutes == minutes],
        "ours, half the time": [run.bits_per_byte for run in runs if run.recipe == "ours" and run.minutes < minutes],
    }
    means = {name: statistics.mean(values) for name, values in groups.items()}
    spreads = {name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in groups.items()}
    lines = [
        f"{name}: {means[name]:.4f} +- {spreads[name]:.4f} bits per byte (n={len(values)})"
        for name, values in groups.items()
    ]
    reached = means["ours, half the time"] <= means["plain"]
    return [*lines, f"the plain recipe's figure in half its time: {'reached' if reached else 'not reached'}"]


def _run(
    name: str, config: TrainConfig, tokens_dir: Path, tokenizer: Path, out_dir: Path, progress: ProgressReporter
) -> Comparison:
    folder = out_dir / f"{name}-{config.minutes:g}m-{config.matrix_lr:g}-batch{config.batch_tokens}-seed{config.seed}"
    done = folder / "comparison.json"
    if done.is_file():
        return Comparison(**json.loads(done.read_text()))
    quiet = config.model_copy(update={"samples": 0, "card_stories": 0, "eval_every_s": 1e9})
    summary = train(quiet, tokens_dir, tokenizer, folder, progress)
    result = Comparison(
        recipe=name,
        minutes=config.minutes,
        seed=config.seed,
        rate=config.matrix_lr,
        batch_tokens=config.batch_tokens,
        bits_per_byte=summary["valid_bits_per_byte"],
        steps=summary["steps"],
        tokens_per_s=summary["tokens_per_s"],
        train_s=summary["train_s"],
        load=os.getloadavg()[0],
    )
    write_json(done, asdict(result))
    return result
