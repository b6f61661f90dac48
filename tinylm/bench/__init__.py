"""Measurements that a sceptic believes: plan, load generator, fresh worker processes, histograms, Parquet tables.

What this package must not know: Prefect, PyTorch, HTML. Cells run in processes of their own
(`python -m tinylm.bench.worker`), so importing this package stays light: names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylm.bench.compare import compare_runs
    from tinylm.bench.config import Load, NullService, Seeds, SweepConfig
    from tinylm.bench.saturation import find_rate
    from tinylm.bench.store import read_run
    from tinylm.bench.sweep import Sweep, run_sweep

__all__ = ["Load", "NullService", "Seeds", "Sweep", "SweepConfig", "compare_runs", "find_rate", "read_run", "run_sweep"]

_HOMES = {
    "Load": "config",
    "NullService": "config",
    "Seeds": "config",
    "Sweep": "sweep",
    "SweepConfig": "config",
    "compare_runs": "compare",
    "find_rate": "saturation",
    "read_run": "store",
    "run_sweep": "sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
