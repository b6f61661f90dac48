"""Each row's own seed, from the job's seed and the row's number."""

from __future__ import annotations

__all__ = ["row_seed"]

_MASK = (1 << 64) - 1


def _mix(x: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def row_seed(job_seed: int, row: int) -> int:
    """Return the 63-bit seed of input row `row`; never changes between versions.

    Mixing the job's seed first keeps job 1, row 0 apart from job 0, row 1.
    """
    return _mix((_mix(job_seed) + 0x9E3779B97F4A7C15 * (row + 1)) & _MASK) >> 1
