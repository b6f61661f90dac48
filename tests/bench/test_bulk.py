"""The measurement of a bulk job beside its engine, on a model small enough for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.bench.bulk import BulkCell, BulkFigures, run_bulk
from tinylm.config import ModelConfig
from tinylm.errors import DataError, StageError
from tinylm.modelfile import random_weights
from tinylm.progress import NullProgress
from tinylm.quantize import write_model

SHAPE = ModelConfig(vocab_size=300, context_length=64, n_layers=1, n_heads=2, n_kv_heads=2, d_model=32, d_ff=64)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> BulkCell:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_model(path, SHAPE, random_weights(SHAPE, 1), b"", "bytes", 256, 257, "int8", {"name": "tiny"})
    openings = path.with_name("openings.txt")
    openings.write_text("One day\n\nThe cat\nA dog ran\n")
    return BulkCell(model=path, openings=openings, rows=2500, new_tokens=8, turn_rows=1000, turn_s=0.01)


def test_job_and_engine_take_turns(cell: BulkCell) -> None:
    (found,) = run_bulk([cell], NullProgress())
    assert isinstance(found, BulkFigures)
    assert found.rows == 2500
    assert len(found.turn_shares) == 3
    assert found.share == pytest.approx(found.job_tokens_per_s / found.engine_tokens_per_s)
    assert min(found.turn_shares) > 0
    assert 0 < found.occupancy <= 1
    assert 0 < found.write_share < 1
    assert found.peak_rss_bytes > 30e6


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("missing.txt", None, "No such file"),
        ("", None, "Is a directory"),
        ("empty.txt", b"\n", "no line of text"),
        ("other.txt", b"a\xff", "not UTF-8 at byte 1"),
    ],
)
def test_bad_openings_are_bad_input(name: str, body: bytes | None, reason: str, cell: BulkCell, tmp_path: Path) -> None:
    path = tmp_path / name
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(DataError, match=rf"^bulk job of 2,500 rows: openings: {path}: .*{reason}"):
        list(run_bulk([cell.model_copy(update={"openings": path})], NullProgress()))


def test_failure_of_a_job_is_told(cell: BulkCell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(StageError, match="2,500 rows: exit code 1"):
        list(run_bulk([cell], NullProgress()))
