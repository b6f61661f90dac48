"""What this machine is: the facts that a reader needs before believing a number from it."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import cpuinfo
import psutil

__all__ = ["cache_bytes", "machine_facts", "machine_key"]

_ISA_FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "asimddp", "i8mm", "bf16")


@functools.cache
def machine_facts() -> dict[str, Any]:
    """Return processor, memory, kernel and limits of this machine, as plain values."""
    cpu = cpuinfo.get_cpu_info()
    flags = set(cpu.get("flags", ()))
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return {
        "cpu": cpu.get("brand_raw", platform.processor() or "unknown"),
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count() or 1,
        "physical_cores": psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        "usable_cores": len(usable),
        "quota_cores": _quota_cores(),
        "isa_flags": [name for name in _ISA_FLAGS if name in flags or name.replace("_", "") in flags],
        "l2_bytes": cache_bytes(usable[0], 2),
        "l3_bytes": cache_bytes(usable[0], 3),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "virtual": "hypervisor" in flags,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def cache_bytes(core: int, level: int, root: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Return the bytes of the cache of this level that a core uses, alone or with others; None where unknown.

    py-cpuinfo would give an AMD chip's second level as its third, and the sum of all cores' as its second.
    """
    for index in sorted((root / f"cpu{core}" / "cache").glob("index*")):
        size = _first_line(index / "size") or ""
        if _first_line(index / "level") == str(level) and size.endswith("K"):
            return int(size[:-1]) * 1024
    return None


def machine_key() -> str:
    """Return a short name of the machine: equal where measured limits may be reused."""
    facts = machine_facts()
    names = ("cpu", "architecture", "usable_cores", "quota_cores", "isa_flags", "memory_bytes")
    return hashlib.sha256(repr([facts[name] for name in names]).encode()).hexdigest()[:12]


def _quota_cores() -> float | None:
    """Return the cores that the container's CPU quota allows, or None without a quota."""
    line = _first_line(Path("/sys/fs/cgroup/cpu.max"))
    quota, _, period = (line or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period or 100_000)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
