"""The GPT family in PyTorch: the readable reference that training uses and every engine is tested against.

Axis letters: B batch rows, T positions, C model width, H query heads, G key/value heads, D head width,
F feed-forward width, V vocabulary, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tinylm.config import GenerateOptions, ModelConfig
from tinylm.errors import ConfigError
from tinylm.lookups import CopyEmbeddings, NGramEmbeddings
from tinylm.weights import LOOKUP_TABLES

__all__ = ["GPT", "Cache", "compiled_features", "generate", "initialise", "next_token"]

_COPY_LOGIT = 6.4  # a token's own score where a head starts to copy; half or three times of it is worse (docs/LOG.md)
LayerCall = Callable[..., Tensor]  # layer, then the arguments of `_Layer.forward`


@dataclass
class Cache:
    """What a model keeps of the positions that it has read; empty at the start of a text."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # keys and values, each (B, G, T, D)
    tokens: Tensor | None = None  # (B, positions), where the model looks n-grams up

    @property
    def positions(self) -> int:
        """How many positions were read."""
        return self.layers[0][0].shape[2] if self.layers else 0


class GPT(nn.Module):
    """A decoder-only transformer; every part of `ModelConfig` is honoured.

    Weights are drawn from torch's global random state (see `initialise`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False  # recompute each layer in backward: less memory, more time
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.d_model)
        if config.position == "learned":
            self.pos_embeddings = nn.Embedding(config.context_length, config.d_model)
        elif config.position == "sinusoidal":
            self.register_buffer("sinusoids", _sinusoids(config), persistent=False)
        if config.ngram_rows:
            self.ngram_embeddings = NGramEmbeddings(config)
        if config.copy_ngrams:
            self.copy_embeddings = CopyEmbeddings(config)
        if config.value_embeddings:
            width = config.n_kv_heads * config.head_width
            tables = (nn.Embedding(config.vocab_size, width) for _ in range(config.n_layers))
            self.value_embeddings = nn.ModuleList(tables)
        self.layers = nn.ModuleList(_Layer(config, index) for index in range(config.n_layers))
        self.norm = _norm(config, config.d_model)
        if not config.tied_embeddings:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        cos, sin = _rotations(config)  # each (context, rotary_dim / 2)
        self.register_buffer("rope_cos", cos, persistent=False)
        self.register_buffer("rope_sin", sin, persistent=False)
        initialise(self)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the logits of the next token at every position.

        Args:    tokens: int64 (B, T).
                 cache: what is kept of earlier positions, extended in place.
        Returns: float32 (B, T, V).
        Raises:  ConfigError if cached positions + T exceed the context length.
        """
        return self.logits(self.features(tokens, cache))

    def features(self, tokens: Tensor, cache: Cache | None = None, call: LayerCall = nn.Module.__call__) -> Tensor:
        """Return the normalised last hidden states, (B, T, C); `logits` turns them into scores.

        Args: call: computes one layer; `compiled_features` puts another in its place.
        """
        config = self.config
        start = cache.positions if cache else 0
        stop = start + tokens.shape[1]
        if stop > config.context_length:
            raise ConfigError(f"context_length: {stop} positions asked, the model has {config.context_length}")
        x = self.tok_embeddings(tokens)  # (B, T, C)
        if config.ngram_rows or config.copy_ngrams:
            x = x + self._looked_up(tokens, cache)
        if config.position == "learned":
            x = x + self.pos_embeddings.weight[start:stop]
        elif config.position == "sinusoidal":
            x = x + self.get_buffer("sinusoids")[start:stop].to(x.dtype)
        rotation = (self.get_buffer("rope_cos")[start:stop], self.get_buffer("rope_sin")[start:stop])
        for index, layer in enumerate(self.layers):
            # Looked up outside of the layer: a compiled one cannot make sparse gradients.
            added = self.value_embeddings[index](tokens) if config.value_embeddings else None
            if self.checkpoint_activations and self.training:
                x = checkpoint(call, layer, x, added, rotation, cache, index, use_reentrant=False)
            else:
                x = call(layer, x, added, rotation, cache, index)
        return self.norm(x)  # type: ignore[no-any-return]

    def _looked_up(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        """Return what the text up to each of `tokens` adds to its embedding, (B, T, C)."""
        text = tokens
        if cache is not None:
            cache.tokens = text = tokens if cache.tokens is None else torch.cat((cache.tokens, tokens), dim=1)
        total = torch.zeros((), device=tokens.device)
        if self.config.ngram_rows:
            total = total + self.ngram_embeddings(text, tokens.shape[1])
        if self.config.copy_ngrams:
            total = total + self.copy_embeddings.of_text(text, tokens.shape[1])
        return total

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 scores (..., V) of hidden states (..., C), soft-capped if the model is."""
        logits = F.linear(hidden, self.head_weight).float()
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    @property
    def head_weight(self) -> Tensor:
        """The (V, C) matrix that scores tokens: the embedding itself when tied."""
        return self.tok_embeddings.weight if self.config.tied_embeddings else self.head.weight


class _Layer(nn.Module):
    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.parallel = config.parallel_residual
        self.attn_norm = _norm(config, config.d_model)
        self.attn = _Attention(config, config.local_window if index in config.local_layers else 0)
        self.mlp_norm = _norm(config, config.d_model)
        self.mlp = _FeedForward(config)

    def forward(
        self, x: Tensor, added: Tensor | None, rotation: tuple[Tensor, Tensor], cache: Cache | None, index: int
    ) -> Tensor:
        attended = self.attn(self.attn_norm(x), added, rotation, cache, index)
        if self.parallel:
            return x + attended + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]
        x = x + attended
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, config: ModelConfig, window: int) -> None:
        super().__init__()
        self.config, self.window = config, window
        C, D, H, G = config.d_model, config.head_width, config.n_heads, config.n_kv_heads
        self.wq = nn.Linear(C, H * D, bias=config.bias)
        self.wk = nn.Linear(C, G * D, bias=config.bias)
        self.wv = nn.Linear(C, G * D, bias=config.bias)
        self.wo = nn.Linear(H * D, C, bias=config.bias)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(D, eps=config.norm_eps)
            self.k_norm = nn.RMSNorm(D, eps=config.norm_eps)

    def forward(
        self, x: Tensor, added: Tensor | None, rotation: tuple[Tensor, Tensor], cache: Cache | None, index: int
    ) -> Tensor:
        config = self.config
        B, T, _ = x.shape
        H, G, D = config.n_heads, config.n_kv_heads, config.head_width
        q, k, v = self.wq(x).view(B, T, H, D), self.wk(x).view(B, T, G, D), self.wv(x).view(B, T, G, D)
        if added is not None:
            v = v + added.view(B, T, G, D)
        if config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if config.position == "rope":
            q, k = _rotate(q, *rotation), _rotate(k, *rotation)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, heads, T, D)
        if cache is not None:
            k, v = _extend(cache, index, k, v)
        if H != G:
            k, v = k.repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)
        mask = _mask(T, k.shape[2], self.window, x.device)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.wo(mixed.transpose(1, 2).reshape(B, T, H * D))  # type: ignore[no-any-return]


class _FeedForward(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        if config.activation == "swiglu":
            self.w_gate = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.w_up = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.w_down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        up = self.w_up(x)
        if self.activation == "swiglu":
            hidden = F.silu(self.w_gate(x)) * up
        elif self.activation == "relu2":
            hidden = F.relu(up).square()
        else:
            hidden = F.gelu(up, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        return self.w_down(hidden)  # type: ignore[no-any-return]


@cache
def compiled_features() -> Callable[[GPT, Tensor], Tensor]:
    """Return `GPT.features` with compiled layers, for inputs of few different shapes.

    All layers of all models of one shape share a graph, so that compiling costs a layer and not a model
    (measured on 2 idle cores: 33 s against 79 s for three row lengths; 4 s where PyTorch has it on disk).
    """
    call = torch.compile(_Layer.forward, dynamic=False)
    return lambda model, tokens: model.features(tokens, call=call)


def _norm(config: ModelConfig, width: int) -> nn.Module:
    if config.norm == "rmsnorm":
        return nn.RMSNorm(width, eps=config.norm_eps)
    return nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias)


def _rotations(config: ModelConfig) -> tuple[Tensor, Tensor]:
    # Angles in double precision, so that every engine can derive the same float32 table.
    rates = config.rope_theta ** (-torch.arange(0, config.rotary_dim, 2, dtype=torch.float64) / config.rotary_dim)
    angles = torch.arange(config.context_length, dtype=torch.float64)[:, None] * rates
    return angles.cos().float(), angles.sin().float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # x (B, T, heads, D); element i is rotated with element i + rotary_dim / 2 (Hugging Face's "rotate half").
    # unbind and stack, not slices: the gradient of a slice is a full tensor of zeros (measured: 5-8 % of a step).
    rotary_dim = 2 * cos.shape[-1]
    cos, sin = cos[:, None, :].to(x.dtype), sin[:, None, :].to(x.dtype)
    first, second = x[..., :rotary_dim].reshape(*x.shape[:-1], 2, rotary_dim // 2).unbind(-2)
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-2).flatten(-2)
    return turned if rotary_dim == x.shape[-1] else torch.cat((turned, x[..., rotary_dim:]), dim=-1)


def _sinusoids(config: ModelConfig) -> Tensor:
    # (context, C): even elements sin, odd elements cos (Vaswani et al., 1706.03762, section 3.5).
    rates = 10_000.0 ** (-torch.arange(0, config.d_model, 2, dtype=torch.float64) / config.d_model)
    angles = torch.arange(config.context_length, dtype=torch.float64)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, : config.d_model].float()


def _extend(cache: Cache, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    if index < len(cache.layers):
        past_k, past_v = cache.layers[index]
        k, v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        cache.layers[index] = (k, v)
    else:
        cache.layers.append((k, v))
    return k, v


def _mask(queries: int, keys: int, window: int, device: torch.device) -> Tensor | None:
    """Return the bool (queries, keys) mask of what may be seen, None for plain causal attention."""
    if not window and queries == keys:
        return None
    distance = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
    visible = distance >= 0
    return visible & (distance < window) if window else visible


@torch.no_grad()
def initialise(
    model: GPT, *, zero_projections: bool = False, embedding_std: float = 0.02, copying: bool = False
) -> None:
    """Draw all weights from torch's global random state.

    Matrices: normal, std 0.02 when the model is GPT-2 wide and 1/sqrt(fan-in) / 2 below that; the two
    projections into the residual stream are scaled by 1/sqrt(2 L) (GPT-2) or, with `zero_projections`,
    set to zero together with an untied head, so that training starts from uniform predictions.

    With `copying`, looking at a token raises its own score from the start: attention's output projection is
    its value projection transposed, and an untied head begins as a faint copy of the embedding. What is left to
    learn is where to look, not also how to say what was seen (gains: docs/LOG.md).
    """
    scale = 1 / math.sqrt(2 * model.config.n_layers)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name.startswith(LOOKUP_TABLES):
            parameter.zero_()
        elif name.endswith("norm.weight"):
            parameter.fill_(1.0)
        elif name.startswith(("tok_embeddings", "pos_embeddings")):
            parameter.normal_(std=embedding_std)
        elif zero_projections and name.endswith(("wo.weight", "w_down.weight", "head.weight")):
            parameter.zero_()
        else:
            std = max(0.02, 0.5 / math.sqrt(parameter.shape[1]))
            parameter.normal_(std=std * scale if name.endswith(("wo.weight", "w_down.weight")) else std)
    if copying:
        _start_copying(model, _COPY_LOGIT / (model.config.d_model * embedding_std))


def _start_copying(model: GPT, share: float) -> None:
    config = model.config
    for index in range(config.n_layers):
        values, out = (model.get_parameter(f"layers.{index}.attn.{name}.weight") for name in ("wv", "wo"))
        heads = values.view(config.n_kv_heads, config.head_width, config.d_model)  # (G, D, C)
        heads = heads.repeat_interleave(config.n_heads // config.n_kv_heads, dim=0)  # (H, D, C)
        out.copy_(heads.flatten(0, 1).T)
    if not config.tied_embeddings:
        model.head.weight.copy_(share * model.tok_embeddings.weight)


def next_token(logits: Tensor, options: GenerateOptions, generator: torch.Generator | None = None) -> Tensor:
    """Return one token per row of `logits` (B, V), int64 (B,): greedy at temperature 0, else sampled.

    Temperature first, then top-k, top-p and min-p on what is left. Meant for samples during training; the
    native engine has its own counter-based sampler.
    """
    if options.temperature == 0:
        return logits.argmax(-1)
    values, order = (logits.float() / options.temperature).sort(dim=-1, descending=True)
    if options.top_k:
        values[:, options.top_k :] = -math.inf
    probabilities = values.softmax(-1)
    dropped = probabilities.cumsum(-1) - probabilities >= options.top_p
    dropped |= probabilities < options.min_p * probabilities[:, :1]
    dropped[:, 0] = False
    probabilities = probabilities.masked_fill(dropped, 0.0)
    return order.gather(1, torch.multinomial(probabilities, 1, generator=generator)).squeeze(1)


@torch.no_grad()
def generate(
    model: GPT,
    prompt: Sequence[int],
    options: GenerateOptions,
    *,
    samples: int = 1,
    eos_id: int | None = None,
) -> list[list[int]]:
    """Return `samples` continuations of one non-empty prompt, without the prompt and without EOS.

    Stops at EOS (unless `options.ignore_eos`), at `options.max_new_tokens`, or when the context is full.
    The random stream depends on `options.seed` alone. Stop strings and penalties are the engine's business.
    """
    device = model.tok_embeddings.weight.device
    generator = torch.Generator(device=device).manual_seed(options.seed)
    room = min(options.max_new_tokens, model.config.context_length - len(prompt))
    tokens = torch.tensor([list(prompt)] * samples, device=device)
    cache = Cache()
    written: list[Tensor] = []
    ended = torch.zeros(samples, dtype=torch.bool, device=device)
    for _ in range(room):
        chosen = next_token(model(tokens, cache)[:, -1], options, generator)
        written.append(chosen)
        if eos_id is not None and not options.ignore_eos:
            ended |= chosen == eos_id
            if bool(ended.all()):
                break
        tokens = chosen[:, None]
    rows = torch.stack(written, dim=1).tolist() if written else [[] for _ in range(samples)]
    if eos_id is None or options.ignore_eos:
        return rows
    return [row[: row.index(eos_id)] if eos_id in row else row for row in rows]
