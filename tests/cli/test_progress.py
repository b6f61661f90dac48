"""The live bar fits the width that terminals have; plain lines tell a time left that holds after a resume."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from tinylm import progress
from tinylm.progress import RichProgress


def test_no_figure_is_cut_at_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with RichProgress().task("stories", 100_000, "rows") as task:
        task.update(99_000, tokens_s=395_512.3, occupancy=0.78712)
    (line,) = capsys.readouterr().err.splitlines()
    assert " 99000/100000 rows 0:00:0" in line
    assert line.endswith("tokens_s=395,512 occupancy=0.7871")


def test_the_time_left_counts_only_what_this_run_did(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = iter((0.0, 0.0, 1.0, 11.0, 12.0))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now_s)))
    caplog.set_level(logging.INFO, "tinylm")
    with progress.PlainProgress(interval_s=0.0).task("train", 1000.0, "%") as task:
        task.update(900.0, loss=2.5)
        task.update(950.0, tokens_per_s=1234567.8)
    assert caplog.messages == [
        "train 900/1,000 % loss=2.5",
        "train 950/1,000 % eta=10s tokens_per_s=1,234,568",
        "train done in 12.0 s",
    ]
