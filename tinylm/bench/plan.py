"""From settings to an ordered list of cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tinylm.bench.config import CellSpec, Load, SweepConfig

__all__ = ["plan_calibration", "plan_cells"]

_AUDITED_TEXTS = 32
_AUDIT_PAIRS = 2


def plan_cells(cfg: SweepConfig, precisions: Sequence[str]) -> list[CellSpec]:
    """Return every cell in running order: capacities, then `repeats` rounds each in its own random order, then audits.

    A round holds each point once, so slow drift of the machine touches all points alike.
    """
    setups = _setups(cfg, precisions)
    cells = plan_calibration(cfg, precisions) if any(Load.parse(load).share for load in cfg.loads) else []
    rng = np.random.Generator(np.random.Philox(cfg.seeds.order))
    points: list[tuple[Setup, str]] = list(itertools.product(setups, cfg.loads))
    for repeat in range(cfg.repeats):
        in_order = [points[i] for i in rng.permutation(len(points)).tolist()]
        cells += [_cell(cfg, setup, load, repeat, "measure") for setup, load in in_order]
    return cells + (_plan_audits(cfg, precisions) if cfg.audit and cfg.backend == "native" else [])


def plan_calibration(cfg: SweepConfig, precisions: Sequence[str]) -> list[CellSpec]:
    """Return one cell per set-up under a saturating closed load: its throughput is the set-up's capacity."""
    setups = _setups(cfg, precisions)
    return [_cell(cfg, setup, f"closed:{2 * setup[1] * setup[3]}", 0, "calibrate") for setup in setups]


def _plan_audits(cfg: SweepConfig, precisions: Sequence[str]) -> list[CellSpec]:
    """Return, per model, cells that answer measured requests again one by one, and prompts alike and unlike."""
    cells = []
    for model in enumerate(precisions):
        alone = (model, 1, cfg.threads[0], 1)
        crowd = (model, 1, cfg.threads[0], min(cfg.batch[0], 8))
        cells.append(_cell(cfg, alone, f"offline:{_AUDITED_TEXTS}", 0, "audit"))
        cells += [
            _cell(cfg, crowd, f"closed:{crowd[3]}", repeat, "audit", prompts)
            for repeat in range(_AUDIT_PAIRS)
            for prompts in ("same", "distinct")
        ]
    return cells


Setup = tuple[tuple[int, str], int, int, int]


def _setups(cfg: SweepConfig, precisions: Sequence[str]) -> list[Setup]:
    return list(itertools.product(enumerate(precisions), cfg.replicas, cfg.threads, cfg.batch))


def _cell(cfg: SweepConfig, setup: Setup, load: str, repeat: int, role: str, prompts: str = "sweep") -> CellSpec:
    (model, precision), replicas, threads, batch = setup
    fields = {
        "role": role,
        "backend": cfg.backend,
        "model": model,
        "precision": precision,
        "load": load,
        "prompts": prompts,
    }
    return CellSpec.model_validate(
        fields | {"replicas": replicas, "threads": threads, "batch": batch, "repeat": repeat}
    )
