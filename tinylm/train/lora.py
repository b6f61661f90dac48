"""Low-rank fine-tuning (Hu et al., 2106.09685): the weights stay, a thin product beside each matrix is trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinylm.model import GPT

__all__ = ["LowRank", "add_low_rank", "merge_low_rank"]

_TARGETS = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")


class LowRank(nn.Module):
    """A frozen linear layer plus b @ a, with a (rank, in) and b (out, rank); b starts at zero."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        rows, columns = linear.weight.shape
        self.low_rank_a = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.low_rank_b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer (..., out) to x (..., in)."""
        return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.low_rank_a), self.low_rank_b)

    def merged(self) -> nn.Linear:
        """Return a plain linear layer that answers the same."""
        rows, columns = self.weight.shape
        linear = nn.Linear(columns, rows, bias=self.bias is not None)
        linear.weight = nn.Parameter(self.weight.detach() + self.low_rank_b.detach() @ self.low_rank_a.detach())
        if self.bias is not None:
            linear.bias = self.bias
        return linear


def add_low_rank(model: GPT, rank: int) -> None:
    """Freeze all weights of `model` and put a trainable product of `rank` beside each matrix of its layers."""
    model.requires_grad_(False)
    for parent in [module for module in model.modules() if not isinstance(module, LowRank)]:
        for name in _TARGETS:
            linear = getattr(parent, name, None)
            if isinstance(linear, nn.Linear):
                setattr(parent, name, LowRank(linear, rank))


def merge_low_rank(model: GPT) -> None:
    """Turn what `add_low_rank` added into the weights themselves; does nothing to a plain model."""
    for parent in list(model.modules()):
        for name in _TARGETS:
            layer = getattr(parent, name, None)
            if isinstance(layer, LowRank):
                setattr(parent, name, layer.merged())
    model.requires_grad_(True)
