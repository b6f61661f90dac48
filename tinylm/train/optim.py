"""Muon for matrices, AdamW for the rest, with state that can be saved as plain tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.model import GPT
from tinylm.train.config import TrainConfig

__all__ = ["AdamW", "Group", "Muon", "Optimizers", "orthogonalise"]

# Quintic Newton-Schulz coefficients: steep at 0, singular values end between about 0.7 and 1.2 (Jordan 2024, Muon).
_NS_A, _NS_B, _NS_C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return matrices (n, R, K) with the same singular vectors and all singular values near 1."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_NS_B, alpha=_NS_C), x, beta=_NS_A)
    return x if wide else x.transpose(1, 2)


class Muon:
    """Momentum, then the nearest orthogonal matrix as the update; equal shapes are handled as one batch."""

    def __init__(self, parameters: Iterable[Tensor], momentum: float, steps: int) -> None:
        groups: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in parameters:
            groups.setdefault(tuple(parameter.shape), []).append(parameter)
        self._groups = list(groups.values())
        self._momentum, self._steps = momentum, steps
        self._averages = [torch.zeros(len(group), *group[0].shape, device=group[0].device) for group in self._groups]

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float) -> None:
        """Move all parameters one step against their gradients."""
        for group, average in zip(self._groups, self._averages, strict=True):
            grads = torch.stack([_grad(parameter) for parameter in group])
            average.lerp_(grads, 1 - self._momentum)
            update = orthogonalise(grads.lerp_(average, self._momentum), self._steps)
            rows, columns = group[0].shape
            if weight_decay:
                torch._foreach_mul_(group, 1 - lr * weight_decay)
            scale = -lr * max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(group, list(update.unbind()), alpha=scale)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `load` needs; they alias the live state."""
        return {f"momentum.{index}": average for index, average in enumerate(self._averages)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state."""
        for index, average in enumerate(self._averages):
            average.copy_(state[f"momentum.{index}"])


@dataclass(frozen=True)
class Group:
    """Parameters that share a peak learning rate."""

    parameters: list[Tensor]
    lr: float
    decays: bool


class AdamW:
    """AdamW (Loshchilov and Hutter, 1711.05101) with one learning rate per group."""

    def __init__(self, groups: list[Group], beta1: float, beta2: float, eps: float = 1e-10) -> None:
        self._groups, self._beta1, self._beta2, self._eps = groups, beta1, beta2, eps
        self._steps = 0
        self._means = [[torch.zeros_like(p) for p in group.parameters] for group in groups]
        self._squares = [[torch.zeros_like(p) for p in group.parameters] for group in groups]

    @torch.no_grad()
    def step(self, lr_scale: float, weight_decay: float) -> None:
        """Move all parameters one step against their gradients."""
        self._steps += 1
        correction = (1 - self._beta2**self._steps) ** 0.5
        for group, means, squares in zip(self._groups, self._means, self._squares, strict=True):
            grads = [_grad(parameter) for parameter in group.parameters]
            lr = lr_scale * group.lr
            torch._foreach_lerp_(means, grads, 1 - self._beta1)
            torch._foreach_mul_(squares, self._beta2)
            torch._foreach_addcmul_(squares, grads, grads, value=1 - self._beta2)
            if group.decays and weight_decay:
                torch._foreach_mul_(group.parameters, 1 - lr * weight_decay)
            scale = torch._foreach_sqrt(squares)
            torch._foreach_div_(scale, correction)
            torch._foreach_add_(scale, self._eps)
            torch._foreach_addcdiv_(group.parameters, means, scale, value=-lr / (1 - self._beta1**self._steps))

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `load` needs; they alias the live state."""
        tensors: dict[str, Tensor] = {"steps": torch.tensor([self._steps])}
        for g, (means, squares) in enumerate(zip(self._means, self._squares, strict=True)):
            tensors |= {f"mean.{g}.{i}": tensor for i, tensor in enumerate(means)}
            tensors |= {f"square.{g}.{i}": tensor for i, tensor in enumerate(squares)}
        return tensors

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state."""
        self._steps = int(state["steps"].item())
        for g, (means, squares) in enumerate(zip(self._means, self._squares, strict=True)):
            for i in range(len(means)):
                means[i].copy_(state[f"mean.{g}.{i}"])
                squares[i].copy_(state[f"square.{g}.{i}"])


class Optimizers:
    """The two optimisers of one model, stepped together."""

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        matrices, embeddings, head, vectors = _split(model)
        groups = [
            Group(embeddings, config.embedding_lr, decays=False),
            Group(head, config.head_lr, decays=False),
            Group(vectors, config.vector_lr, decays=False),
        ]
        self._muon: Muon | None = None
        if config.optimizer == "muon":
            self._muon = Muon(matrices, config.momentum, config.newton_schulz_steps)
        else:
            groups.append(Group(matrices, config.matrix_lr, decays=True))
        self._adamw = AdamW([group for group in groups if group.parameters], config.beta1, config.beta2)
        self._matrix_lr, self._weight_decay = config.matrix_lr, config.weight_decay

    def step(self, lr_scale: float) -> None:
        """Apply the gradients with all rates times `lr_scale`."""
        if self._muon:
            self._muon.step(self._matrix_lr * lr_scale, self._weight_decay)
        self._adamw.step(lr_scale, self._weight_decay)

    def state(self) -> dict[str, Tensor]:
        """Return all optimiser tensors, named."""
        tensors = {f"adamw.{name}": tensor for name, tensor in self._adamw.state().items()}
        if self._muon:
            tensors |= {f"muon.{name}": tensor for name, tensor in self._muon.state().items()}
        return tensors

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state."""
        for prefix, optimizer in (("adamw.", self._adamw), ("muon.", self._muon)):
            if optimizer:
                optimizer.load({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def _split(model: GPT) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Return (matrices of the layers, embeddings, head, vectors), trainable ones only."""
    matrices: list[Tensor] = []
    embeddings: list[Tensor] = []
    head: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif "embeddings" in name:
            embeddings.append(parameter)
        elif name.startswith("head."):
            head.append(parameter)
        else:
            matrices.append(parameter)
    return matrices, embeddings, head, vectors


def _grad(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("a parameter took no part in the loss")
    return parameter.grad
