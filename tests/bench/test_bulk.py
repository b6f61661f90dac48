"""The measurement of a bulk job beside its engine, on a model small enough for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.bench.bulk import BulkCell, BulkFigures, run_bulk
from tinylm.config import ModelConfig
from tinylm.errors import StageError
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


def test_failure_of_a_job_is_told(cell: BulkCell, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(StageError, match=r"2,500 rows: .*holds no line of text"):
        list(run_bulk([cell.model_copy(update={"openings": tmp_path / "empty.txt"})], NullProgress()))
