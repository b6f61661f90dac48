"""A whole small run: what it writes, what it reports, that it learns, and that processes agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tinylm import stages
from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, DataError, FormatError, StageError
from tinylm.presets import PRESETS
from tinylm.progress import NullProgress
from tinylm.scoring import evaluate
from tinylm.tokenizer import Tokenizer
from tinylm.train import TrainConfig, train
from tinylm.train.evaluate import TorchScorer, load_checkpoint, torch_scorer
from tinylm.train.workers import GradientWorkers

Make = Callable[..., TrainConfig]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(tokens_dir: Path, tmp_path_factory: pytest.TempPathFactory, tiny_run: Make) -> tuple[Path, dict[str, Any]]:
    """The directory and summary of a run long enough to learn something."""
    out = tmp_path_factory.mktemp("run")
    config = tiny_run(steps=60, average=0.0, eval_every_s=0.2, card_stories=6)
    return out, train(config, tokens_dir, tokens_dir / "tokenizer.model", out, NullProgress())


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_learns_and_writes_what_exporters_read(finished: tuple[Path, dict[str, Any]], tokens_dir: Path) -> None:
    out, summary = finished
    losses = [row["loss_nats"] for row in _rows(out / "metrics.jsonl") if "loss_nats" in row]
    assert losses[0] > 5.5  # ln 320 = 5.77: training starts from uniform predictions
    assert sum(losses[-5:]) / 5 < 2.0
    assert summary["valid_bits_per_byte"] < 1.2
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["steps"] == 60
    assert summary["tokens"] == 60 * 128
    ModelConfig.model_validate(json.loads((out / "config.json").read_text()))
    assert all(tensor.dtype == torch.float32 for tensor in load_file(out / "model.safetensors").values())
    assert (out / "tokenizer.model").read_bytes() == (tokens_dir / "tokenizer.model").read_bytes()
    assert all(row["text"].startswith("Once upon a time") for row in _rows(out / "samples.jsonl"))
    assert (out / "samples.jsonl").stat().st_size > 0


def test_the_card_shows_stories_beside_human_text(finished: tuple[Path, dict[str, Any]]) -> None:
    out, summary = finished
    card = (out / "README.md").read_text()
    assert f"{summary['valid_bits_per_byte']:.4f} bits per byte" in card
    assert "| novel_8_grams |" in card
    assert summary["score_card"]["human"]["closed_endings"] == 1.0
    assert set(summary["consistency"]) == {"name", "pronoun", "object", "agreement"}


def test_the_summary_is_what_the_common_judge_says(finished: tuple[Path, dict[str, Any]], tokens_dir: Path) -> None:
    out, summary = finished
    texts = pq.read_table(tokens_dir / "valid.parquet")["text"].to_pylist()
    judged = evaluate(torch_scorer(out), texts)
    assert judged.bits_per_byte == pytest.approx(summary["valid_bits_per_byte"], rel=1e-5)
    assert judged.tokens == summary["valid_tokens"]
    assert judged.bytes == sum(len(text.encode()) for text in texts)


def test_windows_cost_what_a_plain_loop_says(finished: tuple[Path, dict[str, Any]], tokenizer: Tokenizer) -> None:
    model = load_checkpoint(finished[0])
    texts = ["Tom saw a dog.", "Lily found a cake. " * 20, "", "A"]
    window = model.config.context_length
    for text, score in zip(texts, TorchScorer(model, tokenizer)(texts), strict=True):
        tokens = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
        nats = 0.0
        for start in range(0, len(tokens) - 1, window):
            part = tokens[start : start + window + 1]
            logits = model(torch.tensor([part[:-1]])).detach().log_softmax(-1)[0]
            nats -= sum(float(logits[i, token]) for i, token in enumerate(part[1:]))
        assert score.nats == pytest.approx(nats, rel=1e-5)
        assert (score.tokens, score.bytes) == (len(tokens) - 1, len(text.encode()))
    assert len(tokenizer.encode(texts[1])) > 2 * window


def test_two_processes_train_as_one(tokens_dir: Path, tmp_path: Path, tiny_run: Make, with_tables: ModelConfig) -> None:
    config = tiny_run(model=with_tables, steps=6, threads=1, average=0.0, clip_norm=0.5, ngram_dropout=0.3)
    script = (
        "import sys; from pathlib import Path; from tinylm.progress import NullProgress\n"
        "from tinylm.train import TrainConfig, train\n"
        f"t = Path({str(tokens_dir)!r})\n"
        f"train(TrainConfig.model_validate_json({config.model_dump_json()!r}), t, t / 'tokenizer.model',"
        " Path(sys.argv[1]), NullProgress())\n"
    )
    (tmp_path / "one.py").write_text(script)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command, out in (([sys.executable], "single"), (launch, "double")):
        call = [*command, str(tmp_path / "one.py"), str(tmp_path / out)]
        done = subprocess.run(call, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    single, double = (
        [row["loss_nats"] for row in _rows(tmp_path / out / "metrics.jsonl")] for out in ("single", "double")
    )
    np.testing.assert_allclose(single, double, rtol=2e-5)
    assert json.loads((tmp_path / "double" / "summary.json").read_text())["plan"]["processes"] == 2


def test_the_key_of_a_training_sees_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    store: Any = SimpleNamespace(build=lambda *_, content, **__: seen.append(content))
    for layers in (1, 2, 2):
        changed = PRESETS["story"].model_copy(update={"n_layers": layers})
        monkeypatch.setitem(PRESETS, "story", changed)
        stages.train(store, TrainConfig(), store, store, NullProgress())
    assert seen[0] != seen[1]
    assert seen[1] == seen[2]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_a_run_that_diverges_says_so(
    tokens_dir: Path, tmp_path: Path, tiny_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GradientWorkers.gradients
    monkeypatch.setattr(GradientWorkers, "gradients", lambda *args: honest(*args) * float("nan"))
    with pytest.raises(StageError, match="the loss is nan at step 1; lower the learning rates"):
        train(tiny_run(), tokens_dir, tokens_dir / "tokenizer.model", tmp_path, NullProgress())


class _Recording(NullProgress):
    """Keeps the share of the training that was reported at each step."""

    def __init__(self) -> None:
        self.shares: dict[int, float] = {}

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[_Recording]:
        del name, total, unit
        yield self

    def update(self, completed: float, **fields: object) -> None:
        self.shares[int(str(fields["step"]).partition("/")[0])] = completed


def test_minutes_are_kept_and_steps_corrected(tokens_dir: Path, tmp_path: Path, tiny_run: Make) -> None:
    config = tiny_run(steps=0, minutes=0.03)
    progress = _Recording()
    summary = train(config, tokens_dir, tokens_dir / "tokenizer.model", tmp_path, progress)
    assert summary["steps"] == summary["plan"]["schedule"]["steps"] >= 20
    assert summary["plan"]["settled_step"] > 0
    spent_s = {row["step"]: row["elapsed_s"] for row in _rows(tmp_path / "metrics.jsonl") if "elapsed_s" in row}
    *middle, (last, share) = progress.shares.items()
    assert (last, share) == (summary["steps"], 100.0)
    assert [share for _, share in middle] == pytest.approx([min(100, spent_s[step] / 0.018) for step, _ in middle])
    assert any("times as long as calibrated" in reason for reason in summary["plan"]["reasons"])


def test_bad_inputs_are_named(tokens_dir: Path, tmp_path: Path, tiny_run: Make) -> None:
    with pytest.raises(DataError, match="not a folder of token shards"):
        train(tiny_run(), tmp_path, tokens_dir / "tokenizer.model", tmp_path / "out", NullProgress())
    with pytest.raises(DataError, match=r"config.json: no such file; expected a finished training run"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(tiny_run().shape.model_dump_json())
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(FormatError, match="does not hold the weights"):
        load_checkpoint(tmp_path)


def test_leaving_out_n_grams_needs_tables_of_them(tokens_dir: Path, tmp_path: Path, tiny_run: Make) -> None:
    config = tiny_run(ngram_dropout=0.3)
    with pytest.raises(ConfigError, match=r"ngram_dropout: expected 0 without ngram_rows; found 0\.3"):
        train(config, tokens_dir, tokens_dir / "tokenizer.model", tmp_path, NullProgress())
