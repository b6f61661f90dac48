"""The processes of a torchrun group: who writes, who takes which rows. One process is the usual case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Processes"]


@dataclass(frozen=True)
class Processes:
    """This process's place in its group."""

    rank: int = 0
    count: int = 1

    @classmethod
    @contextmanager
    def join(cls) -> Iterator[Self]:
        """Join the group that torchrun started, leave it at the end; alone without torchrun."""
        if not dist.is_available() or not dist.is_torchelastic_launched():
            yield cls()
            return
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            torch.cuda.set_device(dist.get_node_local_rank())
        try:
            yield cls(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's equal share of a batch (B, ...)."""
        return rows.chunk(self.count)[self.rank] if self.count > 1 else rows

    def agree(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return the first process's `value` in all of them."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]
