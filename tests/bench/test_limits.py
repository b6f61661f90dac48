"""Machine limits: stored per machine, and what they allow a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.bench.limits import measure_limits, stored_limits
from tinylm.bench.models import lookup_bytes
from tinylm.presets import PRESETS


def test_limit_is_the_tighter_of_arithmetic_and_reading(tmp_path: Path) -> None:
    assert stored_limits(tmp_path) is None
    measure_limits(tmp_path, lambda kind, threads, _: threads * {"int8": 2e11}.get(kind, 1e11), lambda *_: 5e10)
    limits = stored_limits(tmp_path)
    assert limits is not None
    shape = {"macs_per_token": 20_000_000, "weights_bytes": 20_000_000, "precision": "int8", "threads": 1}
    assert limits.tokens_per_s(**shape, rows=1) == pytest.approx(5e10 / 2e7)
    assert limits.tokens_per_s(**shape, rows=64) == pytest.approx(2e11 / 2e7)
    assert limits.tokens_per_s(**{**shape, "precision": "f32"}, rows=64) == pytest.approx(1e11 / 2e7)


def test_lookup_tables_are_not_read_whole() -> None:
    assert lookup_bytes(PRESETS["story"], "int8") == 0
    assert lookup_bytes(PRESETS["story-tables"], "int8") == (16_384 + 2048 + 5 + 4 * 2048) * 128
    assert lookup_bytes(PRESETS["story-tables"], "bf16") == 2 * lookup_bytes(PRESETS["story-tables"], "int4")
