"""What changes over a run: the learning rate warms up, holds and falls; rows grow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tinylm.train.config import TrainConfig

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """The number of steps and what each of them does; plain values, stored as JSON."""

    steps: int
    warmup_steps: int
    lengths: tuple[int, ...]  # positions per row of each phase
    starts: tuple[int, ...]  # first step of each phase
    decay_start: int
    decay_from: float  # factor on the peak rates at `decay_start`, before `final_lr`
    final_lr: float

    @classmethod
    def of(cls, steps: int, config: TrainConfig) -> Schedule:
        """Return the schedule of `steps` steps.

        Rows double from `short_context` to `context` in the first `short_share` of them: short rows are cheaper,
        and put more different documents into a batch.
        """
        growing = max(1, len(config.row_lengths) - 1)
        return cls(
            steps,
            warmup_steps=max(1, round(steps * config.warmup_share)),
            lengths=config.row_lengths,
            starts=tuple(round(steps * config.short_share * at / growing) for at in range(len(config.row_lengths))),
            decay_start=steps - max(1, round(steps * config.decay_share)),
            decay_from=1.0,
            final_lr=config.final_lr,
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Schedule:
        """Return the schedule whose fields are `values`, lists for tuples."""
        return cls(**values | {name: tuple(values[name]) for name in ("lengths", "starts")})

    def replanned(self, steps: int, step: int, config: TrainConfig) -> Schedule:
        """Return a schedule of `steps` steps that agrees with this one before `step`.

        Phases that have begun keep their first step, and a rate that is falling falls on from where it is.
        """
        fresh = Schedule.of(steps, config)
        pairs = zip(self.starts, fresh.starts, strict=True)
        falling = step > self.decay_start
        return replace(
            fresh,
            warmup_steps=self.warmup_steps,
            starts=tuple(old if old < step else max(new, step) for old, new in pairs),
            decay_start=step if falling else max(step, fresh.decay_start),
            decay_from=self._falling(step) if falling else 1.0,
        )

    def lr_scale(self, step: int) -> float:
        """Return the factor on all peak rates at `step`, in (0, 1]."""
        rising = min(1.0, (step + 1) / self.warmup_steps)
        return min(rising, self.final_lr + (1 - self.final_lr) * self._falling(step))

    def _falling(self, step: int) -> float:
        left = (self.steps - step) / max(1, self.steps - self.decay_start)
        return self.decay_from * min(1.0, left)

    def phase(self, step: int) -> tuple[int, int]:
        """Return the first step and the row length of the phase that `step` belongs to."""
        at = max(index for index, start in enumerate(self.starts) if start <= step)
        return self.starts[at], self.lengths[at]

    def cost(self, first: int, last: int, seconds: dict[int, float]) -> float:
        """Return the seconds of steps `first` to `last` - 1, given those of one step by row length."""
        ends = [*self.starts[1:], max(last, self.starts[-1])]
        spans = zip(self.lengths, self.starts, ends, strict=True)
        return sum(seconds[length] * max(0, min(end, last) - max(start, first)) for length, start, end in spans)
