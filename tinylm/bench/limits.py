"""What the machine could do at most, measured once per machine, and what that allows a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinylm.bench.machine import machine_facts, machine_key
from tinylm.config import Config
from tinylm.outputs import whole_file

__all__ = ["MachineLimits", "measure_limits", "store_limits", "stored_limits"]

_ARITHMETIC = ("int8", "bf16", "f32")
_WORKING_SETS = tuple(mb << 20 for mb in (1, 8, 24, 60, 200))
_SECONDS = 0.5
_OPERANDS = {"int8": "int8", "int4": "int8", "bf16": "bf16", "f32": "f32"}

_Key = TypeVar("_Key")
MeasureMacs = Callable[[str, int, float], float]
MeasureRead = Callable[[int, int, float], float]


class MachineLimits(Config):
    """Peaks by number of threads: multiply-accumulates per second by type, bytes read per second by working set."""

    machine: str
    macs_per_s: dict[int, dict[str, float]]
    read_bytes_per_s: dict[int, dict[int, float]]

    def tokens_per_s(
        self, *, macs_per_token: float, weights_bytes: int, precision: str, threads: int, rows: int
    ) -> float:
        """Return the most tokens per second that arithmetic and reading the weights allow.

        Each thread reads its share of the weights, at a bandwidth between those of the working sets next to it.

        Args: rows: tokens of one step, among which one reading of the weights is shared.
        """
        used = max((count for count in self.macs_per_s if count <= threads), default=min(self.macs_per_s))
        arithmetic = self.macs_per_s[used][_OPERANDS[precision]] / macs_per_token
        sizes = sorted(reads := self.read_bytes_per_s[used])
        bandwidth = float(np.interp(weights_bytes / used, sizes, [reads[size] for size in sizes]))
        return min(arithmetic, rows * bandwidth / max(1, weights_bytes))

    def highest(self, other: MachineLimits) -> MachineLimits:
        """Return each rate as the higher of two measurements: what others took of the machine was no limit of it."""
        return MachineLimits(
            machine=self.machine,
            macs_per_s=_highest(self.macs_per_s, other.macs_per_s),
            read_bytes_per_s=_highest(self.read_bytes_per_s, other.read_bytes_per_s),
        )


def _highest(one: dict[int, dict[_Key, float]], other: dict[int, dict[_Key, float]]) -> dict[int, dict[_Key, float]]:
    return {n: {key: max(rate, other[n][key]) for key, rate in rates.items()} for n, rates in one.items()}


def measure_limits(measure_macs: MeasureMacs, measure_read: MeasureRead) -> MachineLimits:
    """Measure the limits with 1 thread and with all cores; takes some 8 s.

    Args: measure_macs: (type, threads, seconds) to multiply-accumulates per second.
          measure_read: (working set per thread in bytes, threads, seconds) to bytes per second.
    """
    counts = sorted({1, int(machine_facts()["usable_cores"])})
    return MachineLimits(
        machine=machine_key(),
        macs_per_s={n: {kind: measure_macs(kind, n, _SECONDS) for kind in _ARITHMETIC} for n in counts},
        read_bytes_per_s={n: {size: measure_read(size, n, _SECONDS) for size in _WORKING_SETS} for n in counts},
    )


def store_limits(folder: Path, limits: MachineLimits) -> None:
    """Keep `limits` in `folder` under the machine's name, for `stored_limits`."""
    with whole_file(_path(folder)) as temporary:
        temporary.write_text(limits.model_dump_json(indent=1) + "\n")


def stored_limits(folder: Path) -> MachineLimits | None:
    """Return this machine's limits from `folder`; None where they were never measured."""
    if not _path(folder).is_file():
        return None
    values: dict[str, Any] = json.loads(_path(folder).read_text())
    return MachineLimits.model_validate(values)


def _path(folder: Path) -> Path:
    return folder / f"limits-{machine_key()}.json"
