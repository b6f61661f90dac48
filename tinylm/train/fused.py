"""Training with the engine's kernels between the matrix products: the sums of `tinylm.model` in fewer passes.

A norm is six passes over memory in plain PyTorch and ten more backward; here it is one and one (gains: docs/LOG.md).
The layers are for float32 on a CPU and the models that `applies` names; the loss is so on any CPU run.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from tinylm.config import ModelConfig
from tinylm.machine import native
from tinylm.model import GPT, Cache

__all__ = ["applies", "fused_features", "move_rows", "nats_and_gradient"]


def applies(config: ModelConfig) -> bool:
    """Return whether `fused_features` can compute such a model."""
    return (
        config.norm == "rmsnorm"
        and config.position == "rope"
        and config.rotary_fraction == 1
        and config.activation == "swiglu"
        and not config.parallel_residual
        and not config.local_layers
    )


def fused_features(model: GPT, tokens: Tensor) -> Tensor:
    """Return `model.features(tokens)` with gradients, equal to rounding; float32 on a CPU."""
    return model.features(tokens, call=_layer)


def _layer(
    layer: Any, x: Tensor, added: Tensor | None, rotation: tuple[Tensor, Tensor], cache: Cache | None, index: int
) -> Tensor:
    del cache, index  # training has no cache
    attn, mlp, config = layer.attn, layer.mlp, layer.attn.config
    B, T, _ = x.shape
    H, G, D, eps = config.n_heads, config.n_kv_heads, config.head_width, config.norm_eps
    normed = _rms_norm(x, layer.attn_norm.weight, eps)
    q, k, v = attn.wq(normed).view(B, T, H, D), attn.wk(normed).view(B, T, G, D), attn.wv(normed)
    if added is not None:
        v = v + added
    if config.qk_norm:
        q, k = _rms_norm(q, attn.q_norm.weight, eps), _rms_norm(k, attn.k_norm.weight, eps)
    q, k = _rotate(q, *rotation), _rotate(k, *rotation)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.view(B, T, G, D).transpose(1, 2)
    if H != G:
        k, v = k.repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + attn.wo(mixed.transpose(1, 2).reshape(B, T, H * D))
    normed = _rms_norm(x, layer.mlp_norm.weight, eps)
    return x + mlp.w_down(_swiglu(mlp.w_gate(normed), mlp.w_up(normed)))  # type: ignore[no-any-return]


def nats_and_gradient(logits: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Return the summed loss of logits (N, V) for targets (N), and its gradient in the logits' own memory."""
    return native.cross_entropy_grad(_array(logits), targets.numpy()), logits


def move_rows(
    rows: Tensor,
    grads: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    correction: float,
    eps: float,
) -> None:
    """Take an Adam step with some rows of a table on a CPU.

    Args: rows: int64 (N), repeats allowed.  grads: (N, C).  state: table, mean, mean square, each (R, C).
          correction: of the root of the mean square, which starts at zero.
    """
    table, mean, square = map(_array, state)
    native.adam_rows(
        rows.numpy(),
        _array(grads),
        table,
        mean,
        square,
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        correction=correction,
        eps=eps,
    )


def _array(tensor: Tensor) -> Any:
    return tensor.detach().numpy()


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return _RMSNorm.apply(x, weight, eps)  # type: ignore[no-any-return,no-untyped-call]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return _Rotate.apply(x, cos, sin)  # type: ignore[no-any-return,no-untyped-call]


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return _SwiGLU.apply(gate, up)  # type: ignore[no-any-return,no-untyped-call]


class _RMSNorm(Function):
    """Rows along the last axis, times a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        native.rms_norm(_array(x), _array(weight), eps, _array(y))
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        dx, dweight = torch.empty_like(x), torch.zeros_like(weight)
        native.rms_norm_grad(
            _array(x), _array(weight), _array(grads[0].contiguous()), ctx.eps, _array(dx), _array(dweight)
        )
        return dx, dweight, None


class _Rotate(Function):
    """Rotary positions of heads (B, T, heads, D); backward turns the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y = x.clone(memory_format=torch.contiguous_format)
    native.rotate(_array(y), _array(cos), _array(sin))
    return y


class _SwiGLU(Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        y = torch.empty_like(gate)
        native.swiglu(_array(gate), _array(up), _array(y))
        ctx.save_for_backward(gate, up)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        native.swiglu_grad(_array(gate), _array(up), _array(grads[0].contiguous()), _array(dgate), _array(dup))
        return dgate, dup
