"""The training page: loss, learning rate and speed over the run, and stories as the model learned to write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinylm.errors import DataError
from tinylm.report.figure import Figure, figure
from tinylm.report.jsonlines import read_rows
from tinylm.report.page import write_page
from tinylm.report.svg import Axis, Plot, plain
from tinylm.report.training_summary import card_rows, consistency_rows, fact_rows
from tinylm.report.words import bytes_text, count_text, percent, rate

__all__ = ["render_training"]

Rows = Sequence[dict[str, Any]]

_QUALITY = ("valid_nats_per_token", "valid_bits_per_byte")


def render_training(train_dir: Path, out_html: Path) -> None:
    """Write the page of the training run in `train_dir`, finished or not.

    Raises: DataError if the folder holds no metrics.
    """
    rows = read_rows(train_dir / "metrics.jsonl")
    if not rows:
        raise DataError(f"{train_dir}: metrics.jsonl is missing or empty; expected the folder of a training run")
    summary_file = train_dir / "summary.json"
    summary = json.loads(summary_file.read_text()) if summary_file.is_file() else {}
    steps = [row for row in rows if "loss_nats" in row]
    judged = _judged(rows, summary)
    figures = [_loss(steps, judged), *_optional(steps, judged)]
    write_page(
        out_html,
        "training.html.j2",
        title="Training",
        numbers=_numbers(steps, judged, summary),
        figures=figures,
        stories=_by_step(read_rows(train_dir / "samples.jsonl")),
        card=card_rows(summary),
        consistency=consistency_rows(summary),
        facts=fact_rows(summary),
        reasons=summary.get("plan", {}).get("reasons", []),
        finished=bool(summary),
    )


def _judged(rows: Rows, summary: dict[str, Any]) -> Rows:
    """Return the looks at validation text on the way and, of a finished run, the last one: only the summary has it."""
    looks = {int(row["step"]): row for row in rows if "valid_bits_per_byte" in row}
    if "valid_bits_per_byte" in summary:
        looks[summary["steps"]] = {"step": summary["steps"]} | {name: summary[name] for name in _QUALITY}
    return [looks[step] for step in sorted(looks)]


def _loss(steps: Rows, judged: Rows) -> Figure:
    smooth = _smooth([float(row["loss_nats"]) for row in steps])
    seen = [float(row["loss_nats"]) for row in steps] + [float(row["valid_nats_per_token"]) for row in judged]
    low, high = min(seen) * 0.95, sorted(seen)[min(len(seen) - 1, int(len(seen) * 0.99))] * 1.02
    right = max(int(row["step"]) for row in [*steps, *judged])

    def draw(width: int) -> Plot:
        plot = Plot(Axis("step", 0, right, format=count_text), Axis("loss, nats per token", low, high), width)
        plot.line([(row["step"], min(row["loss_nats"], high)) for row in steps], "s0 raw")
        plot.line([(row["step"], min(y, high)) for row, y in zip(steps, smooth, strict=True)], 0)
        for row, y in _thin(list(zip(steps, smooth, strict=True)), 40):
            plot.dot(row["step"], min(y, high), 0, f"step {count_text(row['step'])}: training loss {y:.3f}", small=True)
        plot.line([(row["step"], row["valid_nats_per_token"]) for row in judged], 1)
        for row in judged:
            words = f"validation {row['valid_nats_per_token']:.3f} nats, {row['valid_bits_per_byte']:.3f} bits per byte"
            plot.dot(row["step"], row["valid_nats_per_token"], 1, f"step {count_text(row['step'])}: {words}")
        return plot

    last = f"; last on validation {judged[-1]['valid_nats_per_token']:.3f}" if judged else ""
    return figure(
        "loss",
        "Loss",
        draw,
        alt=f"Training loss fell from {steps[0]['loss_nats']:.2f} to {smooth[-1]:.2f} nats per token{last}.",
        caption="Pale: each report; strong: smoothed over neighbouring reports. Validation on the way is on a part of "
        "the validation text, at the end of the run on all of it.",
        columns=("step", "train_nats_per_token", "valid_nats_per_token", "valid_bits_per_byte"),
        rows=[
            (r["step"], r.get("loss_nats"), r.get("valid_nats_per_token"), r.get("valid_bits_per_byte"))
            for r in sorted([*steps, *judged], key=lambda row: int(row["step"]))
        ],
        legend=[("training", 0), ("validation", 1)],
    )


def _optional(steps: Rows, judged: Rows) -> list[Figure]:
    wanted: tuple[tuple[str, str, str, str, Rows, Callable[[float], str]], ...] = (
        ("bits", "Bits per byte", "valid_bits_per_byte", "bits per byte, validation", judged, plain),
        ("lr", "Learning rate", "lr_scale", "share of the peak", steps, percent),
        ("speed", "Speed", "tokens_per_s", "tokens per second", steps, count_text),
        ("utilisation", "Use of the processor", "flops_utilisation", "share of measured matmul speed", steps, percent),
    )
    curves = [
        (name, title, key, label, [r for r in rows if key in r], write)
        for name, title, key, label, rows, write in wanted
    ]
    return [_curve(*curve) for curve in curves if len(curve[4]) > 1]


def _curve(name: str, title: str, key: str, label: str, rows: Rows, write: Callable[[float], str]) -> Figure:
    values = [float(row[key]) for row in rows]
    floor = 0.0 if min(values) < 0.5 * max(values) else min(values) * 0.95
    right = max(int(row["step"]) for row in rows)

    def draw(width: int) -> Plot:
        y = Axis(label, floor, max(values) * 1.06, format=write)
        plot = Plot(Axis("step", 0, right, format=count_text), y, width, 240)
        plot.line([(row["step"], row[key]) for row in rows], 0)
        for row in _thin(rows, 40):
            plot.dot(row["step"], row[key], 0, f"step {count_text(row['step'])}: {write(row[key])}", small=True)
        return plot

    return figure(
        name,
        title,
        draw,
        alt=f"{title}: from {write(values[0])} to {write(values[-1])}.",
        columns=("step", key),
        rows=[(row["step"], float(row[key])) for row in rows],
    )


def _smooth(values: Sequence[float], reach: int = 4) -> list[float]:
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _thin(items: Sequence[Any], most: int) -> list[Any]:
    """Return up to `most` items, evenly spread, always with the last: how the run ended is what is looked for."""
    if len(items) <= most:
        return [*items]
    return [items[i * (len(items) - 1) // (most - 1)] for i in range(most)]


def _numbers(steps: Rows, judged: Rows, summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    bits = summary.get("valid_bits_per_byte") or (judged[-1]["valid_bits_per_byte"] if judged else None)
    speed = summary.get("tokens_per_s") or steps[-1].get("tokens_per_s")
    seconds = summary.get("train_s") or steps[-1].get("elapsed_s")
    text = (
        f"all {bytes_text(summary['valid_bytes'])} of validation text"
        if "valid_bytes" in summary
        else "validation text"
    )
    numbers = [("Quality", f"{bits:.3f}" if bits else "–", f"bits per byte on {text}; lower is better")]
    loss = _smooth([float(row["loss_nats"]) for row in steps])  # one batch alone is mostly chance
    numbers.append(("Training loss", f"{loss[-1]:.3f}", f"nats per token, smoothed; from {steps[0]['loss_nats']:.2f}"))
    numbers.append(("Time", f"{seconds / 60:.1f} min" if seconds else "–", f"{count_text(steps[-1]['step'])} steps"))
    numbers.append(("Speed", count_text(speed), "tokens/s"))
    if parameters := summary.get("parameters"):
        numbers.append(("Parameters", f"{rate(parameters / 1e6)} M", ""))
    return numbers


def _by_step(samples: Rows) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return (step, [(prompt, continuation)]); newest first, at most eight steps spread over the run."""
    steps = sorted({int(row["step"]) for row in samples})
    chosen = sorted({steps[round(i * (len(steps) - 1) / 7)] for i in range(8)}) if steps else []
    texts = {step: [_split(row) for row in samples if int(row["step"]) == step] for step in chosen}
    return [(step, texts[step]) for step in reversed(chosen)]


def _split(row: dict[str, Any]) -> tuple[str, str]:
    prompt, text = str(row.get("prompt", "")), str(row["text"])
    return prompt, text.removeprefix(prompt)
