"""A Hugging Face config.json read as a `ModelConfig`; what does not fit is refused with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tinylm.backends.transformers_layouts import LAYOUTS, Layout
from tinylm.config import ModelConfig, parse
from tinylm.errors import ConfigError, DataError, FormatError

__all__ = ["ImportedShape", "read_hf_config"]

Settings = dict[str, Any]
_GATED = {"silu": "swiglu", "swish": "swiglu"}
_PLAIN = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu2": "relu2",
}
_MISSING = object()
_HUGE = 1e300  # no setting comes near; whole numbers past it are no floats
_MAX_LAYERS = 1024  # as in ModelConfig; known before lists of so many layers are made


@dataclass(frozen=True)
class ImportedShape:
    """What a config.json says in TinyLM's terms."""

    layout: Layout
    config: ModelConfig
    # Layer → factor on wq, for models whose scores are scaled otherwise than by 1/sqrt(D).
    q_factors: dict[int, float] = field(default_factory=dict)


def read_hf_config(settings: Settings, source: str) -> ImportedShape:
    """Return the shape in `settings`, the parsed config.json of `source`.

    Raises: DataError where the architecture or a part of it is one that TinyLM does not run; FormatError where
            a setting is missing or makes no sense.
    """
    names = settings.get("architectures") or []
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str) or names[0] not in LAYOUTS:
        found = ", ".join(map(str, names)) if isinstance(names, list) and names else "none"
        raise DataError(f"{source}: architecture {found} is not supported; supported: {', '.join(LAYOUTS)}")
    layout = LAYOUTS[names[0]]
    if settings.get("quantization_config"):
        raise DataError(f"{source}: the weights are quantised (quantization_config); import the float original")
    readers = {"gpt2": _gpt2, "gpt_neo": _gpt_neo, "gpt_neox": _gpt_neox}
    try:
        values, factors = readers.get(layout.model_type, _llama)(_Reader(settings, source), layout)
        return ImportedShape(layout, parse(ModelConfig, values, source), factors)
    except ConfigError as error:
        raise FormatError(str(error)) from None


@dataclass(frozen=True)
class _Reader:
    """Typed access to one config.json."""

    settings: Settings
    source: str

    def integer(self, *names: str, default: Any = _MISSING) -> int:
        value = self._first(names, default)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >> 63:
            raise FormatError(f"{self.source}: {names[0]} is {str(value)[:40]}; expected a whole number")
        return value

    def layers(self, name: str) -> int:
        value = self.integer(name)
        if not 0 < value <= _MAX_LAYERS:
            raise FormatError(f"{self.source}: {name} is {value}; expected 1 to {_MAX_LAYERS} layers")
        return value

    def number(self, *names: str, default: Any = _MISSING) -> float:
        value = self._first(names, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _HUGE:
            raise FormatError(f"{self.source}: {names[0]} is {str(value)[:40]}; expected a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._first((name,), default)
        if not isinstance(value, bool):
            raise FormatError(f"{self.source}: {name} is {value!r}; expected true or false")
        return value

    def _first(self, names: tuple[str, ...], default: Any) -> Any:
        for name in names:
            if self.settings.get(name) is not None:
                return self.settings[name]
        if default is _MISSING:
            raise FormatError(f"{self.source}: {names[0]} is missing")
        return default

    def activation(self, name: str, known: dict[str, str], default: str) -> str:
        value = self._first((name,), default)
        if not isinstance(value, str) or value not in known:
            raise DataError(f"{self.source}: {name} {value!r} is not supported here; supported: {', '.join(known)}")
        return known[value]

    def rope(self) -> Settings:
        """Return rope_parameters, transformers 4's spelling included; refuses every scaled variant."""
        found = self.settings.get("rope_parameters") or self.settings.get("rope_scaling") or {}
        if not isinstance(found, dict):
            raise FormatError(f"{self.source}: rope_parameters is {found!r}; expected an object")
        kind = found.get("rope_type") or found.get("type") or "default"
        if kind != "default":
            raise DataError(f"{self.source}: RoPE scaling {kind!r} is not supported; only plain RoPE is")
        return found

    def theta(self, *names: str) -> float:
        inner = _Reader(self.rope(), self.source)
        return inner.number("rope_theta", default=self.number(*names, default=10_000.0))


def _llama(read: _Reader, layout: Layout) -> tuple[Settings, dict[int, float]]:
    heads, width = read.integer("num_attention_heads"), read.integer("hidden_size")
    layers = read.layers("num_hidden_layers")
    head_dim = read.integer("head_dim", default=128 if layout.model_type == "qwen3" else 0)
    values: Settings = {
        "vocab_size": read.integer("vocab_size"),
        "context_length": read.integer("max_position_embeddings"),
        "n_layers": layers,
        "n_heads": heads,
        "n_kv_heads": read.integer("num_key_value_heads", default=heads),
        "d_model": width,
        "d_ff": read.integer("intermediate_size"),
        "head_dim": 0 if head_dim * heads == width else head_dim,
        "activation": _feed_forward(read, layout),
        "norm_eps": read.number("rms_norm_eps", default=1e-6),
        "rope_theta": read.theta("rope_theta"),
        "tied_embeddings": read.flag("tie_word_embeddings", False),
        "qk_norm": layout.model_type == "qwen3",
        "bias": _has_bias(read, layout),
    }
    fraction = _Reader(read.rope(), read.source).number("partial_rotary_factor", "rotary_pct", default=1.0)
    if fraction != 1:
        raise DataError(f"{read.source}: partial rotary factor {fraction} in {layout.architecture} is not supported")
    return values | _windows(read, layout, layers), {}


def _feed_forward(read: _Reader, layout: Layout) -> str:
    if layout.model_type == "arcee":
        return read.activation("hidden_act", _PLAIN, "relu2")
    return read.activation("hidden_act", _GATED, "silu")


def _has_bias(read: _Reader, layout: Layout) -> bool:
    if layout.model_type == "qwen2":
        return True  # on q, k and v always; the other biases are zeros
    if layout.model_type == "mistral":
        return False
    return read.flag("attention_bias", False) or read.flag("mlp_bias", False)


_WINDOW_KINDS = ["full_attention", "sliding_attention"]


def _windows(read: _Reader, layout: Layout, layers: int) -> Settings:
    """Return local_window and local_layers of the classes that have a sliding window."""
    window = read.integer("sliding_window", default=0)
    if layout.model_type in ("qwen2", "qwen3") and not read.flag("use_sliding_window", False):
        window = 0
    if layout.model_type in ("llama", "arcee") or not 0 < window < read.integer("max_position_embeddings"):
        return {}
    kinds = read.settings.get("layer_types")
    if kinds is None:
        first = 0 if layout.model_type == "mistral" else read.integer("max_window_layers", default=28)
        return {"local_window": window, "local_layers": tuple(range(first, layers))}
    if not isinstance(kinds, list) or len(kinds) != layers or not all(map(_WINDOW_KINDS.__contains__, kinds)):
        raise FormatError(
            f"{read.source}: layer_types must name full_attention or sliding_attention for {layers} layers"
        )
    return {"local_window": window, "local_layers": tuple(i for i, kind in enumerate(kinds) if kind.startswith("s"))}


def _gpt2(read: _Reader, layout: Layout) -> tuple[Settings, dict[int, float]]:
    del layout
    width, heads, layers = read.integer("n_embd"), read.integer("n_head"), read.layers("n_layer")
    if read.flag("add_cross_attention", False):
        raise DataError(f"{read.source}: cross-attention is not supported")
    values = {
        "vocab_size": read.integer("vocab_size"),
        "context_length": read.integer("n_positions", "n_ctx"),
        "n_layers": layers,
        "n_heads": heads,
        "n_kv_heads": heads,
        "d_model": width,
        "d_ff": read.integer("n_inner", default=4 * width),
        "activation": read.activation("activation_function", _PLAIN, "gelu_new"),
        "norm_eps": read.number("layer_norm_epsilon", default=1e-5),
        "tied_embeddings": read.flag("tie_word_embeddings", True),
        **_LAYER_NORM,
    }
    unscaled = not read.flag("scale_attn_weights", True)
    by_layer = read.flag("scale_attn_by_inverse_layer_idx", False)
    factors = {i: _root(width, heads, unscaled) / (i + 1 if by_layer else 1) for i in range(layers)}
    return values, {i: factor for i, factor in factors.items() if factor != 1}


_LAYER_NORM: Settings = {"norm": "layernorm", "position": "learned", "bias": True}


def _root(width: int, heads: int, unscaled: bool) -> float:
    return math.sqrt(width / heads) if unscaled and heads > 0 and width > 0 else 1.0


def _gpt_neo(read: _Reader, layout: Layout) -> tuple[Settings, dict[int, float]]:
    del layout
    width, heads, layers = read.integer("hidden_size"), read.integer("num_heads"), read.layers("num_layers")
    values = {
        "vocab_size": read.integer("vocab_size"),
        "context_length": read.integer("max_position_embeddings"),
        "n_layers": layers,
        "n_heads": heads,
        "n_kv_heads": heads,
        "d_model": width,
        "d_ff": read.integer("intermediate_size", default=4 * width),
        "activation": read.activation("activation_function", _PLAIN, "gelu_new"),
        "norm_eps": read.number("layer_norm_epsilon", default=1e-5),
        "tied_embeddings": read.flag("tie_word_embeddings", True),
        **_LAYER_NORM,
    }
    local = tuple(i for i, kind in enumerate(_attention_kinds(read, layers)) if kind == "local")
    if local:
        values |= {"local_window": read.integer("window_size", default=256), "local_layers": local}
    return values, {i: _root(width, heads, True) for i in range(layers)}


def _attention_kinds(read: _Reader, layers: int) -> list[str]:
    """Return "global" or "local" for each layer from GPT-Neo's [[kinds, repeats], …]."""
    try:
        groups = ((group, min(times, layers)) for group, times in read.settings["attention_types"])
        each = (kind for group, times in groups for _ in range(times) for kind in group)
        kinds = list(islice(each, layers + 1))  # one more shows that there are too many
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"{read.source}: attention_types is missing or not [[kinds, repeats], …]") from None
    if len(kinds) != layers or not all(kind in ("global", "local") for kind in kinds):
        raise FormatError(
            f"{read.source}: attention_types gives {len(kinds)} kinds; expected {layers}, global or local"
        )
    return kinds


def _gpt_neox(read: _Reader, layout: Layout) -> tuple[Settings, dict[int, float]]:
    del layout
    heads = read.integer("num_attention_heads")
    inner = _Reader(read.rope(), read.source)
    values: Settings = {
        "vocab_size": read.integer("vocab_size"),
        "context_length": read.integer("max_position_embeddings"),
        "n_layers": read.layers("num_hidden_layers"),
        "n_heads": heads,
        "n_kv_heads": heads,
        "d_model": read.integer("hidden_size"),
        "d_ff": read.integer("intermediate_size"),
        "norm": "layernorm",
        "bias": True,
        "activation": read.activation("hidden_act", _PLAIN, "gelu"),
        "norm_eps": read.number("layer_norm_eps", default=1e-5),
        "tied_embeddings": read.flag("tie_word_embeddings", False),
        "parallel_residual": read.flag("use_parallel_residual", True),
        "rope_theta": read.theta("rotary_emb_base", "rope_theta"),
        "rotary_fraction": inner.number("partial_rotary_factor", default=read.number("rotary_pct", default=0.25)),
    }
    return values, {}
