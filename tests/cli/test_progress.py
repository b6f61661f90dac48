"""The live bar: what it says fits the width that terminals have."""

from __future__ import annotations

import pytest

from tinylm.progress import RichProgress


def test_no_figure_is_cut_at_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with RichProgress().task("stories", 100_000, "rows") as task:
        task.update(99_000, tokens_s=395_512.3, occupancy=0.78712)
    (line,) = capsys.readouterr().err.splitlines()
    assert " 99000/100000 rows 0:00:0" in line
    assert line.endswith("tokens_s=395,512 occupancy=0.7871")
