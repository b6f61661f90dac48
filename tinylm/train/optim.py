"""Muon for matrices, Adam for the rest, with state that can be saved as plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from tinylm.model import GPT
from tinylm.train.config import TrainConfig
from tinylm.train.fused import move_rows
from tinylm.weights import LOOKUP_TABLES

__all__ = [
    "AdamW",
    "Group",
    "Muon",
    "Optimizers",
    "TableAdam",
    "minimax_quintics",
    "move_rows_by_torch",
    "orthogonalise",
]

Run = Callable[[Sequence[Callable[[], None]]], None]  # does all the parts of a step, in any order


def _in_turn(parts: Sequence[Callable[[], None]]) -> None:
    for part in parts:
        part()


_SMALLEST = 0.01  # singular values, relative to the Frobenius norm, from here up are made 1; 128 x 128 has few below


@cache
def minimax_quintics(steps: int, low: float = _SMALLEST) -> tuple[tuple[float, float, float], ...]:
    """Return (a, b, c) of each step of the best iteration s -> a s + b s^3 + c s^5 that takes [low, 1] close to 1.

    Each polynomial has the least greatest error on the interval that the one before left (Remez exchange), which
    is optimal for the composition too (Amsel et al., 2505.16932). Three steps end within 0.27 of 1, where the
    fixed coefficients of the first Muon need five.
    """
    high, chosen = 1.0, []
    for _ in range(steps):
        points = np.linspace(low, high, 4)
        for _ in range(40):  # converges in about ten
            system = np.stack([points, points**3, points**5, [1.0, -1.0, 1.0, -1.0]], axis=1)
            a, b, c, error = np.linalg.solve(system, np.ones(4))
            bends = np.sort(np.roots([5 * c, 0, 3 * b, 0, a]).real)
            points = np.array([low, *bends[-2:], high])
        chosen.append((float(a), float(b), float(c)))
        low, high = 1 - abs(error), 1 + abs(error)
    return tuple(chosen)


def orthogonalise(matrices: Tensor, steps: int = 3) -> Tensor:
    """Return matrices (n, R, K) with the same singular vectors and all singular values near 1."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.01 + 1e-7)
    for a, b, c in minimax_quintics(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.transpose(1, 2)


class Muon:
    """Momentum, then the nearest orthogonal matrix as the update (Jordan, 2024); equal shapes go as one batch."""

    def __init__(self, parameters: Mapping[str, Tensor], momentum: float, steps: int) -> None:
        groups: dict[tuple[int, ...], list[str]] = {}
        for name, parameter in parameters.items():
            groups.setdefault(tuple(parameter.shape), []).append(name)
        self._names = list(groups.values())
        self._groups = [[parameters[name] for name in names] for names in self._names]
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
        tensors: dict[str, Tensor] = {}
        for names, average in zip(self._names, self._averages, strict=True):
            tensors |= dict(zip(names, average.unbind(), strict=True))
        return tensors

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


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


class TableAdam:
    """Adam that moves only the rows that a step looked up, so that a table may be as large as memory allows.

    The averages of other rows stay as they are until their next turn. A step then costs what its tokens do, not
    what the tables hold: with plain AdamW 65,536 rows halve the speed of training (docs/LOG.md).
    """

    def __init__(self, tables: Mapping[str, Tensor], lr: float, beta1: float, beta2: float, eps: float = 1e-10) -> None:
        self._tables, self._lr, self._betas, self._eps = dict(tables), lr, (beta1, beta2), eps
        self._steps = 0
        self._means = {name: torch.zeros_like(table) for name, table in tables.items()}
        self._squares = {name: torch.zeros_like(table) for name, table in tables.items()}

    @torch.no_grad()
    def step(self, lr_scale: float) -> None:
        """Move the looked-up rows one step against their gradients."""
        self._steps += 1
        correction = (1 - self._betas[1] ** self._steps) ** 0.5
        lr = self._lr * lr_scale / (1 - self._betas[0] ** self._steps)
        for name, table in self._tables.items():
            rows, grads = _touched(_grad(table))
            state = (table, self._means[name], self._squares[name])
            move = move_rows if table.device.type == "cpu" else move_rows_by_torch
            move(rows, grads, state, lr=lr, betas=self._betas, correction=correction, eps=self._eps)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `load` needs; they alias the live state."""
        means = {f"mean.{name}": tensor for name, tensor in self._means.items()}
        squares = {f"square.{name}": tensor for name, tensor in self._squares.items()}
        return {"steps": torch.tensor([self._steps]), **means, **squares}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state."""
        self._steps = int(state["steps"].item())
        for kind, tensors in (("mean", self._means), ("square", self._squares)):
            for name, tensor in tensors.items():
                tensor.copy_(state[f"{kind}.{name}"])


def _touched(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (N), some perhaps repeated, and their gradients (N, C); what processes have summed is dense."""
    if grad.is_sparse:
        return grad._indices()[0], grad._values()
    rows = grad.any(dim=1).nonzero().squeeze(1)
    return rows, grad[rows]


@torch.no_grad()
def move_rows_by_torch(
    rows: Tensor,
    grads: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    correction: float,
    eps: float,
) -> None:
    """Do what `tinylm.train.fused.move_rows` does, on any device."""
    table, means, squares = state
    rows, places = torch.unique(rows, return_inverse=True)
    grads = torch.zeros(len(rows), grads.shape[1], device=grads.device).index_add_(0, places, grads)
    mean, square = means[rows], squares[rows]
    mean.lerp_(grads, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(grads, grads, value=1 - betas[1])
    means[rows], squares[rows] = mean, square
    table.index_add_(0, rows, mean / (square.sqrt() / correction + eps), alpha=-lr)


class Optimizers:
    """All optimisers of one model, stepped together."""

    def __init__(self, model: GPT, config: TrainConfig, shares: int = 1) -> None:
        """Split the work of a step into `shares` independent parts of about equal cost, plus those of Adam.

        Makes the gradients of the model's lookup tables sparse.
        """
        matrices, embeddings, tables, head, vectors, low_rank = _split(model)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Embedding):
                module.sparse = f"{name}.weight" in tables
        groups = [
            Group(list(embeddings.values()), config.embedding_lr, decays=False),
            Group(list(head.values()), config.head_lr, decays=False),
            Group(list(vectors.values()), config.vector_lr, decays=False),
            Group(list(low_rank.values()), config.lora_lr, decays=False),
        ]
        self._muons: list[Muon] = []
        if config.optimizer == "muon":
            dealt = [dict(list(matrices.items())[share::shares]) for share in range(shares)]  # LoRA leaves none
            self._muons = [Muon(part, config.momentum, config.newton_schulz_steps) for part in dealt if part]
        else:
            groups.append(Group(list(matrices.values()), config.matrix_lr, decays=True))
        self._adamw = AdamW([group for group in groups if group.parameters], config.beta1, config.beta2)
        self._clipped = [p for name, p in model.named_parameters() if p.requires_grad and name not in tables]
        self._tables = TableAdam(tables, config.table_lr, config.beta1, config.beta2)
        self._matrix_lr, self._weight_decay = config.matrix_lr, config.weight_decay

    def clip(self, norm: float) -> None:
        """Scale the gradients down to `norm` in all; those of lookup tables are left out."""
        torch.nn.utils.clip_grad_norm_(self._clipped, norm)

    def step(self, lr_scale: float, run: Run = _in_turn) -> None:
        """Apply the gradients with all rates times `lr_scale`; `run` may do the parts at the same time."""
        lr, decay = self._matrix_lr * lr_scale, self._weight_decay
        parts = [partial(muon.step, lr, decay) for muon in self._muons]
        run([*parts, partial(self._adamw.step, lr_scale, decay), partial(self._tables.step, lr_scale)])

    def state(self) -> dict[str, Tensor]:
        """Return all optimiser tensors, named."""
        tensors = {f"adamw.{name}": tensor for name, tensor in self._adamw.state().items()}
        tensors |= {f"tables.{name}": tensor for name, tensor in self._tables.state().items()}
        for muon in self._muons:
            tensors |= {f"muon.{name}": tensor for name, tensor in muon.state().items()}
        return tensors

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state."""
        for prefix, parts in (("adamw.", [self._adamw]), ("tables.", [self._tables]), ("muon.", self._muons)):
            mine = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            for part in parts:
                part.load(mine)


def _split(model: GPT) -> tuple[dict[str, Tensor], ...]:
    """Return (matrices of the layers, embeddings, tables, head, vectors, low-rank parts): trainable ones, by name."""
    matrices, embeddings, tables, head, vectors, low_rank = kinds = tuple(dict[str, Tensor]() for _ in range(6))
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            vectors[name] = parameter
        elif "low_rank" in name:
            low_rank[name] = parameter
        elif name.startswith(LOOKUP_TABLES):
            tables[name] = parameter
        elif "embeddings" in name:
            embeddings[name] = parameter
        elif name.startswith("head."):
            head[name] = parameter
        else:
            matrices[name] = parameter
    return kinds


def _grad(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("a parameter took no part in the loss")
    return parameter.grad
