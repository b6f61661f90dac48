"""Machine limits: stored per machine, and what they allow a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.bench.limits import MachineLimits, measure_limits, store_limits, stored_limits
from tinylm.bench.machine import cache_bytes
from tinylm.bench.models import lookup_bytes, macs_of_work, weights_bytes
from tinylm.presets import PRESETS
from tinylm.weights import random_weights


def test_limit_is_the_tighter_of_arithmetic_and_reading(tmp_path: Path) -> None:
    assert stored_limits(tmp_path) is None
    measured = measure_limits(lambda kind, threads, _: threads * {"int8": 2e11}.get(kind, 1e11), lambda *_: 5e10)
    store_limits(tmp_path, measured)
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


def test_bandwidth_lies_between_those_of_the_next_working_sets() -> None:
    """Two threads read 8 MB each of 16 MB of weights, 16 MB each of 32 MB: halfway from the set of 8 to that of 24."""
    rates = {1 << 20: 9e10, 8 << 20: 8e10, 24 << 20: 4e10}
    limits = MachineLimits(
        machine="m", macs_per_s={n: {"int8": 1e15} for n in (1, 2)}, read_bytes_per_s=dict.fromkeys((1, 2), rates)
    )
    for size, rate in ((16 << 20, 8e10), (32 << 20, 6e10), (1 << 30, 4e10), (1 << 20, 9e10)):
        most = limits.tokens_per_s(macs_per_token=1, weights_bytes=size, precision="int8", threads=2, rows=1)
        assert most == pytest.approx(rate / size)


def test_the_highest_of_two_measurements_is_the_limit() -> None:
    quiet = measure_limits(lambda *_: 2e11, lambda *_: 5e10)
    busy = measure_limits(lambda *_: 1e11, lambda size, *_: 4e10 if size > 1 << 20 else 9e10)
    assert quiet.highest(busy) == busy.highest(quiet)
    assert quiet.highest(busy).macs_per_s == quiet.macs_per_s
    assert set(quiet.highest(busy).read_bytes_per_s[1].values()) == {5e10, 9e10}


def test_every_matrix_is_multiplied_once_for_a_token() -> None:
    config = PRESETS["llama-8m"]
    matrices = [array for array in random_weights(config, seed=0).values() if array.ndim == 2]
    one = macs_of_work(config, positions=1, logits=1)
    assert one == sum(array.size for array in matrices) == weights_bytes(config, "int8")
    assert macs_of_work(config, positions=200, logits=1) == 200 * one - 199 * config.vocab_size * config.d_model


def test_cache_sizes_are_those_of_one_core_as_the_kernel_tells_them(tmp_path: Path) -> None:
    """An AMD server: 1 MB of second level each, 32 MB of third level shared; core 1 tells nothing."""
    for index, (level, size) in enumerate([("1", "32K"), ("1", "32K"), ("2", "1024K"), ("3", "32768K")]):
        folder = tmp_path / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "level").write_text(f"{level}\n")
        (folder / "size").write_text(f"{size}\n")
    assert cache_bytes(0, 2, tmp_path) == 2**20
    assert cache_bytes(0, 3, tmp_path) == 2**25
    assert cache_bytes(0, 4, tmp_path) is None
    assert cache_bytes(1, 2, tmp_path) is None
