"""What changes over a run: the learning rate warms up, holds and falls; rows grow."""

from __future__ import annotations

from typing import NamedTuple

from tinylm.train.config import TrainConfig

__all__ = ["Phase", "lr_scale", "phase_at", "phases"]


class Phase(NamedTuple):
    """Steps from `first_step` on train rows of `length` positions."""

    first_step: int
    length: int


def lr_scale(step: int, steps: int, config: TrainConfig) -> float:
    """Return the factor on all peak rates at `step` of `steps`, in (0, 1]."""
    warmup = max(1, round(steps * config.warmup_share))
    decay = max(1, round(steps * config.decay_share))
    rising = min(1.0, (step + 1) / warmup)
    falling = min(1.0, (steps - step) / decay)
    return min(rising, config.final_lr + (1 - config.final_lr) * falling)


def phases(steps: int, config: TrainConfig) -> list[Phase]:
    """Return the phases of a run: rows double from `short_context` to `context` in the first `short_share`.

    Short rows are cheaper, and put more different documents into a batch.
    """
    growing = max(1, len(config.row_lengths) - 1)
    starts = [round(steps * config.short_share * index / growing) for index in range(len(config.row_lengths))]
    return [Phase(start, length) for start, length in zip(starts, config.row_lengths, strict=True)]


def phase_at(step: int, plan: list[Phase]) -> Phase:
    """Return the phase that `step` belongs to."""
    return next(phase for phase in reversed(plan) if phase.first_step <= step)
