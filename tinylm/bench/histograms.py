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


_HALF_BITS = 10  # HdrHistogram's layout at three digits: 2 x 1,024 linear steps per power of two

Ints = NDArray[np.int64]


class LatencyHistogram:
    """A distribution of nanoseconds in HdrHistogram's buckets; only the filled ones are held."""

    def __init__(self, values_ns: Iterable[int] | Ints = ()) -> None:
        self._index: Ints = np.zeros(0, np.int64)
        self._count: Ints = np.zeros(0, np.int64)
        self.record(values_ns)

    def record(self, values_ns: Iterable[int] | Ints) -> None:
        """Add values; negative ones count as 0."""
        array = np.asarray(values_ns if isinstance(values_ns, np.ndarray) else list(values_ns), dtype=np.int64)
        self._add(*np.unique(_index_of(np.clip(array, 0, HIGHEST_NS)), return_counts=True))

    def merge(self, other: LatencyHistogram) -> None:
        """Add all values of `other`."""
        self._add(other._index, other._count)

    @property
    def count(self) -> int:
        """Values recorded."""
        return int(self._count.sum())

    @property
    def min_ns(self) -> int:
        """Lower end of the lowest filled bucket; 0 when empty."""
        return int(_low_of(self._index[:1]).sum())

    @property
    def max_ns(self) -> int:
        """Upper end of the highest filled bucket; 0 when empty."""
        return int(_high_of(self._index[-1:]).sum())

    @property
    def mean_ns(self) -> float:
        """Arithmetic mean, each value taken as its bucket's middle; 0 when empty."""
        middles = (_low_of(self._index) + _high_of(self._index)) / 2
        return float((middles * self._count).sum() / max(1, self.count))

    def percentile_ns(self, percentile: float) -> int | None:
        """Return the value at `percentile`, or None when the samples are too few to show it."""
        return self.quantile_ns(percentile) if self.count >= samples_needed(percentile) else None

    def quantile_ns(self, percentile: float) -> int:
        """Return the value at `percentile` whatever the count: for judging a cell, not for showing."""
        if not self.count:
            return 0
        rank = max(1, math.floor(percentile / 100 * self.count + 0.5))
        at = int(np.searchsorted(np.cumsum(self._count), rank))
        return int(_high_of(self._index[at : at + 1])[0])

    def buckets(self) -> tuple[list[int], list[int]]:
        """Return (lowest value of each filled bucket in ns, count of each)."""
        return _low_of(self._index).tolist(), self._count.tolist()

    def encode(self) -> str:
        """Return the HdrHistogram V2 encoding, base64: Java, C and Go read it too."""
        hdr = HdrHistogram(1, HIGHEST_NS, DIGITS)
        np.ctypeslib.as_array(hdr.counts)[self._index] = self._count
        hdr.total_count, hdr.min_value, hdr.max_value = self.count, self.min_ns, self.max_ns
        encoded: bytes = hdr.encode()
        return encoded.decode("ascii")

    @classmethod
    def decode(cls, text: str) -> LatencyHistogram:
        """Return the histogram that `encode` wrote."""
        histogram = cls()
        counts = np.ctypeslib.as_array(HdrHistogram.decode(text.encode("ascii")).counts)
        filled = np.flatnonzero(counts)
        histogram._add(filled, counts[filled])
        return histogram

    def _add(self, index: Ints, count: Ints) -> None:
        merged, place = np.unique(np.concatenate([self._index, index]), return_inverse=True)
        total = np.zeros(len(merged), np.int64)
        np.add.at(total, place, np.concatenate([self._count, count]))
        self._index, self._count = merged.astype(np.int64), total


def _index_of(values: Ints) -> Ints:
    """Return HdrHistogram's bucket number of each value."""
    bits = np.frexp(np.maximum(values, 1).astype(np.float64))[1].astype(np.int64)
    bucket = np.maximum(0, bits - _HALF_BITS - 1)
    return np.asarray((bucket << _HALF_BITS) + (values >> bucket), dtype=np.int64)


def _low_of(index: Ints) -> Ints:
    """Return the lowest value of each bucket."""
    bucket = np.maximum(0, (index >> _HALF_BITS) - 1)
    return np.asarray((index - (bucket << _HALF_BITS)) << bucket, dtype=np.int64)


def _high_of(index: Ints) -> Ints:
    """Return the highest value of each bucket."""
    bucket = np.maximum(0, (index >> _HALF_BITS) - 1)
    return np.asarray(_low_of(index) + (np.int64(1) << bucket) - 1, dtype=np.int64)
