"""The training page of a finished run: its summary in words and rounded figures."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from tinylm.report import render_training
from tinylm.report.training_summary import card_rows
from tinylm.train.scorecard import TrainingText, score_card

HUMAN = ["Once upon a time, a dog ran. The dog ran.", 'Lily said, "Hello."']
CARD = score_card(["A dog ran. A dog ran."], HUMAN, TrainingText(HUMAN))
PLAN = {"device": "cpu", "bf16": True, "workers": 2, "threads": 1, "matmul_flops": 430368663158.26276}
SUMMARY = {
    "steps": 30,
    "tokens": 1946880,
    "epochs": 0.2969643250188875,
    "seconds": {"gradients": 222.18410815819516},
    "valid_bits_per_byte": 0.09117526227654034,
    "valid_nats_per_token": 0.24955506271281996,
    "valid_bytes": 524719,
    "plan": PLAN | {"reasons": ["2 workers for 2 cores", "507 steps"], "schedule": {"final_lr": 0.0}},
    "score_card": CARD,
    "consistency": {"name": 0.58, "agreement": 0.66},
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of thirty steps, two looks at validation text on the way, and the summary."""
    folder = tmp_path_factory.mktemp("train")
    rows = [{"step": s, "loss_nats": 8 / s} for s in range(1, 31)]
    rows += [{"step": s, "valid_nats_per_token": 8.5 / s, "valid_bits_per_byte": 3 / s} for s in (10, 20)]
    lines = [json.dumps(row) for row in sorted(rows, key=lambda row: row["step"])]
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(SUMMARY), encoding="utf-8")
    render_training(folder, folder / "training.html")
    return (folder / "training.html").read_text(encoding="utf-8")


def test_summary_is_words_and_rounded_figures(page: str) -> None:
    shown = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", shown)).split())
    assert not re.search(r"[{}\[\]]|\d\.\d{6}|[a-z]_[a-z]", text[text.index("Score card") :])
    assert "Finished endings stories whose last sentence is complete 100.0 % 100.0 %" in text
    assert "Name the right person's name 58 %" in text
    assert "Passes over the corpus 0.30" in text
    assert "430 GFLOP/s" in text
    assert "0.091 bits per byte on all 525\u00a0kB of validation text" in shown.replace('</dd><dd class="remark">', " ")
    assert "<li>2 workers for 2 cores</li><li>507 steps</li>" in page


def test_curves_end_where_the_headline_says(page: str) -> None:
    looks = re.findall(r'data-tip="step (\d+): validation ([\d.]+) nats, ([\d.]+) bits per byte"', page)
    assert looks[: len(looks) // 2] == [("10", "0.850", "0.300"), ("20", "0.425", "0.150"), ("30", "0.250", "0.091")]
    assert "<tr><td>30</td><td></td><td>0.249555</td><td>0.0911753</td></tr>" in page
    smoothed = sum(8 / step for step in range(26, 31)) / 5
    assert f"<dd>{smoothed:.3f}</dd>" in page
    assert f"step 30: training loss {smoothed:.3f}" in page


def test_every_figure_of_the_score_card_has_its_words() -> None:
    assert [label for label, _, _, meaning in card_rows(SUMMARY) if not meaning] == []
    assert len(card_rows(SUMMARY)) == len(CARD["model"])


@pytest.mark.parametrize("n_steps", [1, 2, 39, 40, 41, 80, 119, 507])
def test_the_last_point_of_a_long_curve_has_its_value(n_steps: int, tmp_path: Path) -> None:
    steps = range(1, n_steps + 1)
    rows = [{"step": s, "loss_nats": 8.0, "lr_scale": 0.5, "tokens_per_s": 9e3} for s in steps]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    render_training(tmp_path, tmp_path / "training.html")
    page = (tmp_path / "training.html").read_text(encoding="utf-8")
    for words in ("training loss 8.000", "50\u00a0%", "9,000")[: 3 if n_steps > 1 else 1]:
        told = list(dict.fromkeys(re.findall(rf'data-tip="step ([\d,]+): {words}"', page)))  # charts come in two widths
        assert (told[0], told[-1]) == ("1", str(n_steps)), words
        assert len(told) == min(n_steps, 40)
