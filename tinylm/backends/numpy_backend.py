"""The model in plain NumPy: read this first. One file, no torch, every part of `ModelConfig`; slow and clear.

Axis letters: T positions given now, P positions seen so far, C width, H query heads, G key/value heads,
D head width, F feed-forward width, V vocabulary, L layers. Weights are (out, in), float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinylm.backends.base import FloatArray, LoadedModel, StepBackend
from tinylm.config import NGRAM_FACTOR, ModelConfig

__all__ = ["NumpyBackend", "NumpyModel", "position_table", "rotations"]


@dataclass
class TextCache:
    """What a model keeps of the positions that it has read."""

    layers: list[tuple[FloatArray, FloatArray]]  # keys and values, each (G, P, D)
    tokens: list[int]  # all of them


class NumpyModel:
    """The forward pass of one model over float32 weights by name."""

    def __init__(self, config: ModelConfig, weights: dict[str, FloatArray]) -> None:
        self.config = config
        self._weights = weights
        self._positions = position_table(config, weights)
        self._cos, self._sin = rotations(config)

    def empty_cache(self) -> TextCache:
        """Return the cache of a new text."""
        config = self.config
        nothing = np.zeros((config.n_kv_heads, 0, config.head_width), np.float32)
        return TextCache([(nothing, nothing)] * config.n_layers, [])

    def forward(self, tokens: Sequence[int], cache: TextCache) -> FloatArray:
        """Return the logits (T, V) after each of `tokens`, which continue the text in `cache`; extends `cache`."""
        config = self.config
        start = len(cache.tokens)
        cache.tokens += tokens
        x = self._weights["tok_embeddings.weight"][list(tokens)]  # (T, C)
        for n, rows in enumerate(config.ngram_rows, start=2):
            x = x + self._weights[f"ngram_embeddings.{n}.weight"][_ngram_rows(cache.tokens, n, rows)[start:]]
        if config.copy_ngrams:
            x = x + np.stack([self._copied(cache.tokens, position) for position in range(start, len(cache.tokens))])
        if self._positions is not None:
            x = x + self._positions[start : start + len(tokens)]
        for i in range(config.n_layers):
            attended = self._attend(i, self._norm(f"layers.{i}.attn_norm", x), cache)
            if config.parallel_residual:
                x = x + attended + self._feed_forward(i, x)
            else:
                x = x + attended
                x = x + self._feed_forward(i, x)
        x = self._norm("norm", x)
        head = self._weights["tok_embeddings.weight" if config.tied_embeddings else "head.weight"]
        logits = x @ head.T
        cap = np.float32(config.logit_softcap)
        return cap * np.tanh(logits / cap) if cap else logits

    def _copied(self, tokens: list[int], position: int) -> FloatArray:
        """Return the vectors (C) of the length of the n-gram that was used before, and of the token after it."""
        table = self._weights["copy_embeddings.weight"]
        n, end = _last_use(tokens, position, self.config.copy_ngrams)
        vector: FloatArray = table[self.config.vocab_size + n]
        return vector + table[tokens[end + 1]] if n else vector

    def _attend(self, i: int, x: FloatArray, cache: TextCache) -> FloatArray:
        config = self.config
        past_k, past_v = cache.layers[i]
        T, start = len(x), past_k.shape[1]
        q = self._heads(f"layers.{i}.attn.wq", x)  # (H, T, D)
        k = self._heads(f"layers.{i}.attn.wk", x)  # (G, T, D)
        v = self._heads(f"layers.{i}.attn.wv", x)
        if config.value_embeddings:
            v = v + self._split(self._weights[f"value_embeddings.{i}.weight"][cache.tokens[start:]])
        if config.qk_norm:
            q = _rms_norm(q, config.norm_eps) * self._weights[f"layers.{i}.attn.q_norm.weight"]
            k = _rms_norm(k, config.norm_eps) * self._weights[f"layers.{i}.attn.k_norm.weight"]
        if config.position == "rope":
            q, k = self._rotate(q, start), self._rotate(k, start)
        k = np.concatenate((past_k, k), axis=1)  # (G, P, D)
        v = np.concatenate((past_v, v), axis=1)
        cache.layers[i] = (k, v)

        group = config.n_heads // config.n_kv_heads  # query heads that share one key/value head
        q = q.reshape(config.n_kv_heads, group, T, config.head_width)
        scores = q @ k[:, None].swapaxes(-1, -2) / np.float32(math.sqrt(config.head_width))  # (G, group, T, P)
        window = config.local_window if i in config.local_layers else 0
        scores = np.where(_visible(start, T, window), scores, np.float32(-np.inf))
        mixed = _softmax(scores) @ v[:, None]  # (G, group, T, D)
        mixed = mixed.reshape(config.n_heads, T, config.head_width).swapaxes(0, 1).reshape(T, -1)
        return self._linear(f"layers.{i}.attn.wo", mixed)

    def _feed_forward(self, i: int, x: FloatArray) -> FloatArray:
        x = self._norm(f"layers.{i}.mlp_norm", x)
        up = self._linear(f"layers.{i}.mlp.w_up", x)  # (T, F)
        match self.config.activation:
            case "swiglu":
                hidden = _silu(self._linear(f"layers.{i}.mlp.w_gate", x)) * up
            case "gelu":
                hidden = up * np.float32(0.5) * (1 + _erf(up / np.float32(math.sqrt(2))))
            case "gelu_tanh":
                inner = np.float32(math.sqrt(2 / math.pi)) * (up + np.float32(0.044715) * up**3)
                hidden = up * np.float32(0.5) * (1 + np.tanh(inner))
            case "relu2":
                hidden = np.maximum(up, 0) ** 2
        return self._linear(f"layers.{i}.mlp.w_down", hidden)

    def _linear(self, name: str, x: FloatArray) -> FloatArray:
        y = x @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _heads(self, name: str, x: FloatArray) -> FloatArray:
        """Project (T, C) and split into heads: (heads, T, D)."""
        return self._split(self._linear(name, x))

    def _split(self, rows: FloatArray) -> FloatArray:
        return rows.reshape(len(rows), -1, self.config.head_width).swapaxes(0, 1)

    def _norm(self, name: str, x: FloatArray) -> FloatArray:
        if self.config.norm == "rmsnorm":
            return _rms_norm(x, self.config.norm_eps) * self._weights[f"{name}.weight"]
        centred = x - x.mean(axis=-1, keepdims=True)
        y = _rms_norm(centred, self.config.norm_eps) * self._weights[f"{name}.weight"]
        bias = self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _rotate(self, x: FloatArray, start: int) -> FloatArray:
        """Turn each head (heads, T, D) by its position: element j together with element j + rotary_dim / 2."""
        cos = self._cos[start : start + x.shape[1]]  # (T, rotary_dim / 2)
        sin = self._sin[start : start + x.shape[1]]
        half = cos.shape[-1]
        first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return np.concatenate((first * cos - second * sin, second * cos + first * sin, rest), axis=-1)


def _rms_norm(x: FloatArray, eps: float) -> FloatArray:
    mean_square = np.mean(np.square(x), axis=-1, keepdims=True)
    normed: FloatArray = x / np.sqrt(mean_square + np.float32(eps))
    return normed


def _softmax(scores: FloatArray) -> FloatArray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    share: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
    return share


def _silu(x: FloatArray) -> FloatArray:
    # Through tanh, which cannot overflow: sigmoid(x) = (1 + tanh(x / 2)) / 2.
    half: FloatArray = np.float32(0.5) * x
    gated: FloatArray = half * (1 + np.tanh(half))
    return gated


def _erf(x: FloatArray) -> FloatArray:
    # NumPy has no erf; the standard library's, element by element.
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float32, x.size).reshape(x.shape)


def _ngram_rows(tokens: Sequence[int], n: int, rows: int) -> NDArray[np.int64]:
    """Return the table row of the n-gram that ends at each token, (P); zeros stand before the first."""
    padded = np.array([0] * (n - 1) + list(tokens), np.int64)
    row = np.zeros(len(tokens), np.int64)
    for first in range(n):  # from the oldest token of the n-gram to the newest
        row = (row * NGRAM_FACTOR + padded[first : first + len(tokens)]) % rows
    return row


def _last_use(tokens: Sequence[int], position: int, longest: int) -> tuple[int, int]:
    """Return the length of the longest n-gram ending at `position` that was there before, and where it ended last."""
    best, place = 0, position
    for end in range(position - 1, -1, -1):
        n = 0
        while n < min(longest, end + 1) and tokens[end - n] == tokens[position - n]:
            n += 1
        if n > best:
            best, place = n, end
        if best == longest:
            break
    return best, place


def _visible(start: int, count: int, window: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return the (T, P) mask of what each new position may look at: itself and what came before."""
    distance = np.arange(start, start + count)[:, None] - np.arange(start + count)
    return (distance >= 0) & (distance < window) if window else distance >= 0


def rotations(config: ModelConfig) -> tuple[FloatArray, FloatArray]:
    """Return cos and sin of position * theta^(-2j / rotary_dim), each (context, rotary_dim / 2)."""
    rates = config.rope_theta ** (-np.arange(0, config.rotary_dim, 2) / config.rotary_dim)
    angles = np.arange(config.context_length)[:, None] * rates
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def position_table(config: ModelConfig, weights: dict[str, FloatArray]) -> FloatArray | None:
    """Return what is added to the embedding at each position (context, C), None where RoPE does the work."""
    if config.position == "learned":
        return weights["pos_embeddings.weight"]
    if config.position == "rope":
        return None
    rates = 10_000.0 ** (-np.arange(0, config.d_model, 2) / config.d_model)
    angles = np.arange(config.context_length)[:, None] * rates
    table = np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(config.context_length, -1)
    return table[:, : config.d_model].astype(np.float32)


class NumpyBackend(StepBackend):
    """`NumpyModel` behind the backends' protocol."""

    name = "numpy"

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model)
        self._model = NumpyModel(model.config, model.weights)
        self._cache = self._model.empty_cache()

    def reset(self) -> None:
        self._cache = self._model.empty_cache()

    def step(self, tokens: Sequence[int]) -> FloatArray:
        return self._model.forward(tokens, self._cache)
