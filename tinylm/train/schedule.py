"""What changes over a run: the learning rate warms up, holds and falls; rows grow."""

from __future__ import annotations

from tinylm.train.config import TrainConfig

__all__ = ["lr_scale", "row_length"]


def lr_scale(step: int, steps: int, config: TrainConfig) -> float:
    """Return the factor on all peak rates at `step` of `steps`, in (0, 1]."""
    warmup = max(1, round(steps * config.warmup_share))
    decay = max(1, round(steps * config.decay_share))
    rising = min(1.0, (step + 1) / warmup)
    falling = min(1.0, (steps - step) / decay)
    return min(rising, config.final_lr + (1 - config.final_lr) * falling)


def row_length(step: int, steps: int, config: TrainConfig) -> int:
    """Return T, the positions per row, at `step` of `steps`: short rows first, they are cheaper."""
    return config.first_row_length if step < round(steps * config.short_share) else config.row_length
