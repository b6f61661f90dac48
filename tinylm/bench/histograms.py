"""Latencies as HdrHistograms: three significant digits, merged and never averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

__all__ = ["HIGHEST_NS", "PERCENTILES", "LatencyHistogram", "samples_needed"]

HIGHEST_NS = 3_600 * 10**9  # one hour: nothing that is measured here takes longer
DIGITS = 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_TAIL_SAMPLES = 10  # values wanted beyond a percentile before it is shown: 1,000 for p99, 10,000 for p99.9


def samples_needed(percentile: float) -> int:
    """Return how many values a percentile needs before it is shown."""
    return math.ceil(_TAIL_SAMPLES / (1 - percentile / 100) - 1e-6)


class LatencyHistogram:
    """A distribution of nanoseconds."""

    def __init__(self, values_ns: Iterable[int] | NDArray[np.int64] = ()) -> None:
        self._hdr = HdrHistogram(1, HIGHEST_NS, DIGITS)
        self.record(values_ns)

    def record(self, values_ns: Iterable[int] | NDArray[np.int64]) -> None:
        """Add values; negative ones count as 0."""
        array = np.asarray(values_ns if isinstance(values_ns, np.ndarray) else list(values_ns), dtype=np.int64)
        values, counts = np.unique(np.clip(array, 0, HIGHEST_NS), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._hdr.record_value(value, count)

    def merge(self, other: LatencyHistogram) -> None:
        """Add all values of `other`."""
        self._hdr.add(other._hdr)

    @property
    def count(self) -> int:
        """Values recorded."""
        return int(self._hdr.get_total_count())

    @property
    def min_ns(self) -> int:
        """Smallest value; 0 when empty."""
        return int(self._hdr.get_min_value()) if self.count else 0

    @property
    def max_ns(self) -> int:
        """Largest value; 0 when empty."""
        return int(self._hdr.get_max_value()) if self.count else 0

    @property
    def mean_ns(self) -> float:
        """Arithmetic mean; 0 when empty."""
        return float(self._hdr.get_mean_value()) if self.count else 0.0

    def percentile_ns(self, percentile: float) -> int | None:
        """Return the value at `percentile`, or None when the samples are too few to show it."""
        if self.count < samples_needed(percentile):
            return None
        return int(self._hdr.get_value_at_percentile(percentile))

    def quantile_ns(self, percentile: float) -> int:
        """Return the value at `percentile` whatever the count: for judging a cell, not for showing."""
        return int(self._hdr.get_value_at_percentile(percentile)) if self.count else 0

    def buckets(self) -> tuple[list[int], list[int]]:
        """Return (lowest value of each non-empty bucket in ns, count of each)."""
        lows, counts = [], []
        for item in self._hdr.get_recorded_iterator():
            lows.append(int(self._hdr.get_lowest_equivalent_value(item.value_iterated_to)))
            counts.append(int(item.count_at_value_iterated_to))
        return lows, counts

    def encode(self) -> str:
        """Return the HdrHistogram V2 encoding, base64: Java, C and Go read it too."""
        encoded: bytes = self._hdr.encode()
        return encoded.decode("ascii")

    @classmethod
    def decode(cls, text: str) -> LatencyHistogram:
        """Return the histogram that `encode` wrote."""
        histogram = cls()
        histogram._hdr = HdrHistogram.decode(text.encode("ascii"))
        return histogram
