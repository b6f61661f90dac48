"""From settings to an ordered list of cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tinylm.bench.config import CellSpec, Load, SweepConfig

__all__ = ["plan_cells"]


def plan_cells(cfg: SweepConfig, precisions: Sequence[str]) -> list[CellSpec]:
    """Return every cell in running order: capacities first, then `repeats` rounds, each in its own random order.

    A round holds each point once, so slow drift of the machine touches all points alike.
    """
    setups = list(itertools.product(enumerate(precisions), cfg.replicas, cfg.threads, cfg.batch))
    cells = [_cell(cfg, setup, load, 0, "calibrate") for setup in setups for load in _calibration(cfg, setup)]
    rng = np.random.Generator(np.random.Philox(cfg.seeds.order))
    points: list[tuple[Setup, str]] = list(itertools.product(setups, cfg.loads))
    for repeat in range(cfg.repeats):
        in_order = [points[i] for i in rng.permutation(len(points)).tolist()]
        cells += [_cell(cfg, setup, load, repeat, "measure") for setup, load in in_order]
    return cells


Setup = tuple[tuple[int, str], int, int, int]


def _calibration(cfg: SweepConfig, setup: Setup) -> list[str]:
    """Name the saturating closed load that a share of capacity refers to; none where no load needs it."""
    if not any(Load.parse(load).share for load in cfg.loads):
        return []
    _, replicas, _, batch = setup
    return [f"closed:{2 * replicas * batch}"]


def _cell(cfg: SweepConfig, setup: Setup, load: str, repeat: int, role: str) -> CellSpec:
    (model, precision), replicas, threads, batch = setup
    fields = {"role": role, "backend": cfg.backend, "model": model, "precision": precision, "load": load}
    return CellSpec.model_validate(
        fields | {"replicas": replicas, "threads": threads, "batch": batch, "repeat": repeat}
    )
