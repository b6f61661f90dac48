"""HdrHistogram arithmetic: equal to the reference library, merged and never averaged, withheld when thin."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from tinylm.bench.histograms import HIGHEST_NS, LatencyHistogram, samples_needed


def values(seed: int, count: int = 5_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = np.arange(4_200)  # every edge of the first buckets
    return np.concatenate([low, rng.lognormal(16, 2, count).astype(np.int64)])


def test_equals_the_reference_library() -> None:
    reference = HdrHistogram(1, HIGHEST_NS, 3)
    for value in values(1).tolist():
        reference.record_value(value)
    ours = LatencyHistogram(values(1))
    for percentile in (0.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0):
        assert ours.quantile_ns(percentile) == reference.get_value_at_percentile(percentile)
    assert ours.encode() == reference.encode().decode()
    assert ours.mean_ns == pytest.approx(reference.get_mean_value(), rel=1e-6)


def test_encoding_survives_a_round_trip() -> None:
    ours = LatencyHistogram(values(2))
    again = LatencyHistogram.decode(ours.encode())
    assert again.buckets() == ours.buckets()
    assert (again.count, again.min_ns, again.max_ns) == (ours.count, ours.min_ns, ours.max_ns)


def test_merge_is_the_histogram_of_the_union() -> None:
    merged = LatencyHistogram(values(3))
    merged.merge(LatencyHistogram(values(4)))
    union = LatencyHistogram(np.concatenate([values(3), values(4)]))
    assert merged.buckets() == union.buckets()
    averaged = (LatencyHistogram(values(3)).quantile_ns(99.9) + LatencyHistogram(values(4)).quantile_ns(99.9)) / 2
    assert merged.quantile_ns(99.9) != averaged


def test_value_error_stays_within_three_digits() -> None:
    for value in (1_234_567, 98_765_432_109, 2_047, 2_048, 2_049):
        assert LatencyHistogram([value]).quantile_ns(50) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(("percentile", "needed"), [(50.0, 20), (90.0, 100), (99.0, 1_000), (99.9, 10_000)])
def test_thin_percentiles_are_withheld(percentile: float, needed: int) -> None:
    assert samples_needed(percentile) == needed
    assert LatencyHistogram(range(needed - 1)).percentile_ns(percentile) is None
    assert LatencyHistogram(range(needed)).percentile_ns(percentile) is not None
