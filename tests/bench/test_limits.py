"""Machine limits: stored per machine, and what they allow a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.bench.limits import measure_limits, stored_limits


def test_limit_is_the_tighter_of_arithmetic_and_reading(tmp_path: Path) -> None:
    assert stored_limits(tmp_path) is None
    measure_limits(tmp_path, lambda kind, threads, _: threads * {"int8": 2e11}.get(kind, 1e11), lambda *_: 5e10)
    limits = stored_limits(tmp_path)
    assert limits is not None
    shape = {"macs_per_token": 20_000_000, "weights_bytes": 20_000_000, "precision": "int8", "threads": 1}
    assert limits.tokens_per_s(**shape, rows=1) == pytest.approx(5e10 / 2e7)
    assert limits.tokens_per_s(**shape, rows=64) == pytest.approx(2e11 / 2e7)
    assert limits.tokens_per_s(**{**shape, "precision": "f32"}, rows=64) == pytest.approx(1e11 / 2e7)
