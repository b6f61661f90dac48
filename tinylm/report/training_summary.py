"""What a finished training run says, in words: the score card beside human text, the plan, sizes and times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinylm.report.words import bytes_text, count_text, duration, percent, rate

__all__ = ["card_rows", "consistency_rows", "fact_rows"]

Summary = dict[str, Any]
Write = Callable[[float], str]


def _share(value: float) -> str:
    return percent(value, 1)


# Key of `tinylm.train.scorecard` → what the page calls it, how it is written, what it is.
_CARD: dict[str, tuple[str, Write, str]] = {
    "words_per_story": ("Words per story", count_text, "the mean"),
    "in_grammar": ("Flawless stories", _share, "the built-in text's grammar could have written them, to the letter"),
    "opening_share": ("Usual opening", _share, "stories that begin with “Once upon a time”"),
    "closed_endings": ("Finished endings", _share, "stories whose last sentence is complete"),
    "closed_quotes": ("Closed quotes", _share, "stories in which every opened quote is closed"),
    "repeated_sentences": ("Repeated sentences", _share, "sentences that their story has said before"),
    "lexicon_share": ("Known words", _share, "words that the training text has too"),
    "distinct_1": ("Different words", _share, "of all words; this and the next two over equally much text of both"),
    "distinct_2": ("Different pairs", _share, "of all pairs of neighbouring words"),
    "distinct_3": ("Different triples", _share, "of all triples of neighbouring words"),
    "self_bleu_4": ("Likeness", rate, "of each story to the others (self-BLEU-4); 1: all are the same"),
    "novel_8_grams": ("New wording", _share, "spans of eight words that the training text lacks"),
    "longest_copy_words": ("Longest copy", count_text, "words of the longest span that one training document has too"),
    "median_copy_words": ("Usual copy", count_text, "the same of the middle story; 0: no eight words in a row"),
}
_CONSISTENCY = {
    "name": "the right person's name",
    "pronoun": "he or she, as the person is",
    "object": "the thing that the story is about",
    "agreement": "singular or plural, as the sentence needs it",
}
_FACTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("Steps", "steps", count_text),
    ("Tokens", "tokens", count_text),
    ("Passes over the corpus", "epochs", rate),
    ("Parameters", "parameters", count_text),
    ("Time", "train_s", lambda seconds: duration(seconds * 1e9)),
    ("Time by part", "seconds", lambda parts: ", ".join(f"{name} {duration(s * 1e9)}" for name, s in parts.items())),
    ("Speed", "tokens_per_s", lambda speed: f"{count_text(speed)} tokens/s"),
    ("Validation text", "valid_bytes", bytes_text),
    ("Validation tokens", "valid_tokens", count_text),
    ("Bits per byte", "valid_bits_per_byte", lambda bits: f"{bits:.4f}"),
    ("Nats per token", "valid_nats_per_token", lambda nats: f"{nats:.4f}"),
    ("Seed", "seed", str),
    ("PyTorch", "torch", str),
)


def card_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Return (figure, the model's, human text's, what it means) of each figure on the score card."""
    card = summary.get("score_card", {"model": {}, "human": {}})
    known = [name for name in _CARD if name in card["model"]]
    rows = []
    for name in [*known, *(name for name in card["model"] if name not in _CARD)]:
        label, write, meaning = _CARD.get(name, (name.replace("_", " "), rate, ""))
        rows.append((label, write(card["model"][name]), write(card["human"][name]), meaning))
    return rows


def consistency_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """Return (kind, share of minimal pairs judged right, what is to be kept) of each kind."""
    shares = summary.get("consistency", {}).items()
    return [(kind.capitalize(), percent(share), _CONSISTENCY.get(kind, "")) for kind, share in shares]


def fact_rows(summary: Summary) -> list[tuple[str, str]]:
    """Return (name, value with its unit) of what was trained, how long, and on what."""
    rows = [(label, write(summary[key])) for label, key, write in _FACTS if key in summary]
    return [*rows, ("Processor", _processor(summary["plan"]))] if "plan" in summary else rows


def _processor(plan: dict[str, Any]) -> str:
    workers = f"{plan['workers']} × {plan['threads']}"
    how = f"{plan['device']}, {'bf16' if plan['bf16'] else 'f32'}, workers × threads: {workers}"
    return f"{how}; a large matrix product runs at {count_text(plan['matmul_flops'] / 1e9)} GFLOP/s"
