"""The model card: what was trained, on what, how good it is beside human text, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.config import ModelConfig

__all__ = ["model_card"]

_LIMITS = (
    "A small model of children's stories: it knows no facts, keeps track of a few sentences, and can contradict "
    "itself. It has seen no text but its training corpus and is not meant for advice, questions or chat."
)


def model_card(shape: ModelConfig, summary: Mapping[str, Any], samples: Sequence[str]) -> str:
    """Return the card as Markdown, with front matter that model hubs read."""
    plan = summary["plan"]
    heads = f"{shape.n_heads} heads of {shape.head_width}"
    lines = [
        "---",
        "language: en",
        "pipeline_tag: text-generation",
        "tags: [tinylm, stories]",
        "---",
        "# A TinyLM story model",
        "",
        f"{summary['parameters']:,} parameters: {shape.n_layers} layers, width {shape.d_model}, {heads}, "
        f"vocabulary {shape.vocab_size:,}, context {shape.context_length}.",
        "",
        "## Training",
        "",
        f"- {summary['steps']:,} steps, {summary['tokens']:,} tokens, {summary['epochs']:.2f} passes over the corpus",
        f"- {summary['train_s']:.0f} s on {plan['device']} in {'bf16' if plan['bf16'] else 'f32'}, "
        f"{summary['tokens_per_s']:,.0f} tokens/s, seed {summary['seed']}",
        f"- validation text: {summary['valid_bits_per_byte']:.4f} bits per byte, "
        f"{summary['valid_nats_per_token']:.4f} nats per token over {summary['valid_bytes']:,} bytes",
        "",
    ]
    if "score_card" in summary:
        lines += ["## Stories beside held-out human text", "", *_table(summary["score_card"]), ""]
    if "consistency" in summary:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in summary["consistency"].items())
        lines += [f"Consistency, right text of a minimal pair preferred (chance 50 %): {shares}.", ""]
    if samples:
        lines += ["## Samples", ""]
        lines += [line for text in samples for line in (*(f"> {part}" for part in text.splitlines()), "")]
    return "\n".join([*lines, "## Limits", "", _LIMITS, ""])


def _table(card: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = [f"| {name} | {value:.3g} | {card['human'][name]:.3g} |" for name, value in card["model"].items()]
    return ["| figure | model | human |", "| --- | ---: | ---: |", *rows]
