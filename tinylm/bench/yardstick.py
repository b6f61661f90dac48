"""The machine's own speed, read before and after each cell, so that a slow machine is not called slow software."""

from __future__ import annotations

import statistics
import time

import numpy as np

__all__ = ["yardstick"]

_ELEMENTS, _PASSES, _READINGS = 1 << 15, 200, 15  # 128 KiB a vector: inside L2; about 5 ms a reading


def yardstick() -> float:
    """Return billions of float32 additions per second of one thread, median of a few short readings."""
    vector = np.ones(_ELEMENTS, np.float32)
    total = np.zeros(_ELEMENTS, np.float32)
    readings = []
    for _ in range(_READINGS):
        begin_s = time.perf_counter()
        for _ in range(_PASSES):
            np.add(total, vector, out=total)
        readings.append(_ELEMENTS * _PASSES / (time.perf_counter() - begin_s) / 1e9)
    return statistics.median(readings)
