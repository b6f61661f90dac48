"""Answers that arrive in any order, put back in row order, shard by shard."""

from __future__ import annotations

from dataclasses import dataclass, field

from tinylm.stories.plan import JobPlan
from tinylm.stories.rows import Row
from tinylm.stories.shards import Answer

__all__ = ["Assembly"]


@dataclass
class _Open:
    """A shard that still waits for answers."""

    rows_left: int
    answers: dict[tuple[int, int], Answer] = field(default_factory=dict)


class Assembly:
    """Holds the answers of unfinished shards; gives each shard out when its last answer is in."""

    def __init__(self, plan: JobPlan) -> None:
        self._plan = plan
        self._open: dict[int, _Open] = {}
        self._samples_left: dict[int, int] = {}
        self.rows_held = 0
        self.rows_answered = 0

    def expect(self, row: Row) -> None:
        """Announce a row: from now on it counts as held."""
        number = row.index // self._plan.job.rows_per_shard
        if number not in self._open:
            self._open[number] = _Open(rows_left=len(self._plan.shard_rows(number)))
        self._samples_left[row.index] = row.samples
        self.rows_held += 1

    def add(self, answer: Answer) -> tuple[int, list[Answer]] | None:
        """Take one answer; return (shard number, its answers in row order) when that completes a shard."""
        number = answer.row // self._plan.job.rows_per_shard
        shard = self._open[number]
        shard.answers[answer.row, answer.sample] = answer
        self._samples_left[answer.row] -= 1
        if self._samples_left[answer.row]:
            return None
        del self._samples_left[answer.row]
        self.rows_answered += 1
        shard.rows_left -= 1
        if shard.rows_left:
            return None
        del self._open[number]
        self.rows_held -= len(self._plan.shard_rows(number))
        return number, [shard.answers[key] for key in sorted(shard.answers)]
