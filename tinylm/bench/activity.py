"""How busy the machine was: counters of the system and of this process, read at the edges of a window; peak memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Activity", "Counters", "judge_activity", "peak_rss_bytes"]

OTHERS_LIMIT = 0.05  # share of the machine that other processes may use before a cell is flagged (chosen)
STEAL_LIMIT = 0.01  # share of time the hypervisor may take before a cell is flagged (chosen)


@dataclass(frozen=True, slots=True)
class Counters:
    """One reading."""

    wall_s: float
    own_cpu_s: float
    machine_busy_s: float
    steal_s: float
    voluntary: int
    involuntary: int
    load: float

    @classmethod
    def read(cls) -> Counters:
        """Read the counters now; a few hundred microseconds."""
        process = psutil.Process()
        own, switches, machine = process.cpu_times(), process.num_ctx_switches(), psutil.cpu_times()
        return cls(
            wall_s=time.monotonic(),
            own_cpu_s=own.user + own.system,
            machine_busy_s=machine.user + machine.nice + machine.system,
            steal_s=float(getattr(machine, "steal", 0.0)),
            voluntary=switches.voluntary,
            involuntary=switches.involuntary,
            load=os.getloadavg()[0],
        )


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened between two readings."""

    cpu_s: float
    others_share: float
    steal_share: float
    context_switches: int
    involuntary_switches: int
    load_before: float
    load_after: float

    @classmethod
    def between(cls, before: Counters, after: Counters) -> Activity:
        """Return the differences; shares are of all cores' time."""
        machine_s = max(1e-9, (after.wall_s - before.wall_s) * (os.cpu_count() or 1))
        own_s = after.own_cpu_s - before.own_cpu_s
        others_s = max(0.0, after.machine_busy_s - before.machine_busy_s - own_s)
        return cls(
            cpu_s=own_s,
            others_share=others_s / machine_s,
            steal_share=max(0.0, after.steal_s - before.steal_s) / machine_s,
            context_switches=after.voluntary - before.voluntary,
            involuntary_switches=after.involuntary - before.involuntary,
            load_before=before.load,
            load_after=after.load,
        )


def judge_activity(activity: Activity) -> list[str]:
    """Return the flag `busy-machine` when others took time from the cell, else nothing."""
    busy = activity.others_share > OTHERS_LIMIT or activity.steal_share > STEAL_LIMIT
    return ["busy-machine"] if busy else []


def peak_rss_bytes() -> int:
    """Return the high-water mark of this process alone; `ru_maxrss` would begin with the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
