"""The C++ extension, or one clear error; and what it says of this machine.

The only importer of `tinylm._native`: the engine and training take it from here.
"""

from __future__ import annotations

import os

from tinylm.errors import EngineError

try:
    from tinylm import _native as native
except ImportError as error:  # pragma: no cover - only without a build
    raise EngineError(f"the C++ engine is not built ({error}); run: python setup.py build_ext --inplace") from None

__all__ = ["allowed_cpus", "available_isas", "build_info", "measure_macs", "measure_read", "native", "physical_cores"]


def allowed_cpus() -> int:
    """Return on how many logical processors this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Return how many of the machine's cores this process can keep busy, at least 1."""
    import psutil  # 2 MB, for this one question

    return max(1, min(allowed_cpus(), psutil.cpu_count(logical=False) or allowed_cpus()))


def available_isas() -> list[str]:
    """Return the instruction sets that this build has and this machine runs, fastest first."""
    return list(native.available_isas())


def build_info() -> dict[str, str]:
    """Return compiler, flags and instruction sets of the build."""
    return dict(native.build_info())


def measure_macs(kind: str, threads: int, seconds: float) -> float:
    """Return this machine's peak multiply-accumulates per second in "int8", "bf16" or "f32", all threads together."""
    return float(native.measure_macs(kind=kind, threads=threads, seconds=seconds)[1])


def measure_read(working_set_bytes: int, threads: int, seconds: float) -> float:
    """Return bytes per second that `threads` read at once, each over a working set of its own."""
    return float(native.measure_read(working_set_bytes=working_set_bytes, threads=threads, seconds=seconds))
