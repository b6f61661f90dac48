"""Cross-entropy without holding all logits: rows are scored in chunks, gradients made on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tinylm.model import GPT
from tinylm.train.fused import nats_and_gradient

__all__ = ["next_token_loss", "token_nats"]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean loss of hidden (N, C) @ weight (V, C).T against targets (N,).

    The loss is a scalar, so its gradients can be made while a chunk's logits are still in cache; nothing of
    size (N, V) ever exists and nothing is computed twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, cap: float, rows: int) -> Tensor:
        needs_grad = any(ctx.needs_input_grad[:2])
        matrix = weight.to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        grad_weight = torch.zeros_like(weight) if needs_grad else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), rows):
            part, wanted = hidden[start : start + rows], targets[start : start + rows, None]
            logits = F.linear(part, matrix).float()
            if cap:
                logits = cap * torch.tanh(logits / cap)
            nats, grad = _nats_and_gradient(logits, wanted, keep_logits=bool(cap))
            total += nats
            if grad_hidden is None or grad_weight is None:
                continue
            if cap:
                grad *= 1 - (logits / cap).square()
            grad = grad.to(hidden.dtype)
            torch.mm(grad, matrix, out=grad_hidden[start : start + rows])
            grad_weight += grad.T @ part
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0] / len(grad_hidden)
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight * scale, None, None, None


def _nats_and_gradient(logits: Tensor, wanted: Tensor, *, keep_logits: bool) -> tuple[Tensor | float, Tensor]:
    """Return the summed loss of logits (N, V) and softmax - one-hot, its gradient; may reuse the logits' memory."""
    if logits.device.type == "cpu":
        return nats_and_gradient(logits.clone() if keep_logits else logits, wanted.flatten())
    log_p = logits.log_softmax(-1)
    nats = -log_p.gather(1, wanted).sum()
    grad = log_p.exp_()
    return nats, grad.scatter_add_(1, wanted, torch.full_like(wanted, -1.0, dtype=grad.dtype))


def next_token_loss(
    model: GPT, inputs: Tensor, targets: Tensor, rows: int, features: Callable[[GPT, Tensor], Tensor] = GPT.features
) -> Tensor:
    """Return the mean cross-entropy in nats per token, float32 scalar.

    Args: inputs, targets: int64 (B, T).
          rows: rows of logits held at once.
          features: `GPT.features`, or a compiled or fused form of it.
    """
    hidden = features(model, inputs).flatten(0, 1)
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    cap = model.config.logit_softcap
    return _ChunkedCrossEntropy.apply(hidden, model.head_weight, targets.flatten(), cap, rows)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def token_nats(model: GPT, inputs: Tensor, targets: Tensor, rows: int = 1024) -> Tensor:
    """Return each target's cost in nats, float32 (B, T)."""
    hidden, wanted = model.features(inputs).flatten(0, 1), targets.flatten()
    parts = [
        F.cross_entropy(model.logits(hidden[at : at + rows]), wanted[at : at + rows], reduction="none")
        for at in range(0, len(wanted), rows)
    ]
    return torch.cat(parts).view_as(targets)
