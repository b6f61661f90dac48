"""How TinyLM's models sit inside the classes of the `transformers` library: names, shapes and settings.

One table per class serves both directions, reading (`to_ours`) and writing (`to_theirs`). No torch here: arrays
in, arrays out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinylm.backends.numpy_backend import position_table
from tinylm.config import ModelConfig
from tinylm.errors import DataError, FormatError
from tinylm.modelfile import weight_shapes

__all__ = ["LAYOUTS", "Layout", "Part", "is_windowed", "layout_for", "to_ours", "to_theirs"]

FloatArray = NDArray[np.float32]
Weights = dict[str, FloatArray]
# rows: ours above each other; columns: the same, transposed (GPT-2's Conv1D); heads: (H, ours, D) interleaved (NeoX)
Form = Literal["rows", "columns", "heads"]

# Which linear layers (and LayerNorms) carry a bias; any: as the config says.
Biases = Literal["any", "qkv", "all but qkv", "all"]


@dataclass(frozen=True)
class Part:
    """One of their matrices or norms (weight and perhaps bias) and the one or three of ours that it holds."""

    ours: tuple[str, ...]
    theirs: str
    form: Form = "rows"


@dataclass(frozen=True)
class Layout:
    """One class of transformers: its tensors' names; `{i}` is the layer."""

    architecture: str
    model_type: str
    prefix: str  # their name of the inner model; some published files leave it out
    parts: tuple[Part, ...]
    biases: Biases = "any"
    unscaled_attention: bool = False  # scores are not divided by sqrt(D): wq carries the factor


def _llama_parts(*, gated: bool, qk_norm: bool) -> tuple[Part, ...]:
    layer = {
        "attn_norm": "input_layernorm",
        "attn.wq": "self_attn.q_proj",
        "attn.wk": "self_attn.k_proj",
        "attn.wv": "self_attn.v_proj",
        "attn.wo": "self_attn.o_proj",
        "mlp_norm": "post_attention_layernorm",
        "mlp.w_up": "mlp.up_proj",
        "mlp.w_down": "mlp.down_proj",
    }
    if gated:
        layer["mlp.w_gate"] = "mlp.gate_proj"
    if qk_norm:
        layer |= {"attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm"}
    return (
        Part(("tok_embeddings",), "model.embed_tokens"),
        *(Part((f"layers.{{i}}.{ours}",), f"model.layers.{{i}}.{theirs}") for ours, theirs in layer.items()),
        Part(("norm",), "model.norm"),
        Part(("head",), "lm_head"),
    )


_QKV = ("layers.{i}.attn.wq", "layers.{i}.attn.wk", "layers.{i}.attn.wv")
_GPT2_ENDS = (
    Part(("tok_embeddings",), "transformer.wte"),
    Part(("pos_embeddings",), "transformer.wpe"),
    Part(("layers.{i}.attn_norm",), "transformer.h.{i}.ln_1"),
    Part(("layers.{i}.mlp_norm",), "transformer.h.{i}.ln_2"),
    Part(("norm",), "transformer.ln_f"),
    Part(("head",), "lm_head"),
)
_GPT2 = (
    *_GPT2_ENDS,
    Part(_QKV, "transformer.h.{i}.attn.c_attn", "columns"),
    Part(("layers.{i}.attn.wo",), "transformer.h.{i}.attn.c_proj", "columns"),
    Part(("layers.{i}.mlp.w_up",), "transformer.h.{i}.mlp.c_fc", "columns"),
    Part(("layers.{i}.mlp.w_down",), "transformer.h.{i}.mlp.c_proj", "columns"),
)
_GPT_NEO = (
    *_GPT2_ENDS,
    Part(("layers.{i}.attn.wq",), "transformer.h.{i}.attn.attention.q_proj"),
    Part(("layers.{i}.attn.wk",), "transformer.h.{i}.attn.attention.k_proj"),
    Part(("layers.{i}.attn.wv",), "transformer.h.{i}.attn.attention.v_proj"),
    Part(("layers.{i}.attn.wo",), "transformer.h.{i}.attn.attention.out_proj"),
    Part(("layers.{i}.mlp.w_up",), "transformer.h.{i}.mlp.c_fc"),
    Part(("layers.{i}.mlp.w_down",), "transformer.h.{i}.mlp.c_proj"),
)
_GPT_NEOX = (
    Part(("tok_embeddings",), "gpt_neox.embed_in"),
    Part(("layers.{i}.attn_norm",), "gpt_neox.layers.{i}.input_layernorm"),
    Part(_QKV, "gpt_neox.layers.{i}.attention.query_key_value", "heads"),
    Part(("layers.{i}.attn.wo",), "gpt_neox.layers.{i}.attention.dense"),
    Part(("layers.{i}.mlp_norm",), "gpt_neox.layers.{i}.post_attention_layernorm"),
    Part(("layers.{i}.mlp.w_up",), "gpt_neox.layers.{i}.mlp.dense_h_to_4h"),
    Part(("layers.{i}.mlp.w_down",), "gpt_neox.layers.{i}.mlp.dense_4h_to_h"),
    Part(("norm",), "gpt_neox.final_layer_norm"),
    Part(("head",), "embed_out"),
)
_GATED = _llama_parts(gated=True, qk_norm=False)

LAYOUTS: dict[str, Layout] = {
    layout.architecture: layout
    for layout in (
        Layout("LlamaForCausalLM", "llama", "model.", _GATED),
        Layout("MistralForCausalLM", "mistral", "model.", _GATED),
        Layout("Qwen2ForCausalLM", "qwen2", "model.", _GATED, "qkv"),
        Layout("Qwen3ForCausalLM", "qwen3", "model.", _llama_parts(gated=True, qk_norm=True)),
        Layout("ArceeForCausalLM", "arcee", "model.", _llama_parts(gated=False, qk_norm=False)),
        Layout("GPT2LMHeadModel", "gpt2", "transformer.", _GPT2, "all"),
        Layout("GPTNeoForCausalLM", "gpt_neo", "transformer.", _GPT_NEO, "all but qkv", unscaled_attention=True),
        Layout("GPTNeoXForCausalLM", "gpt_neox", "gpt_neox.", _GPT_NEOX, "all"),
    )
}


def layout_for(config: ModelConfig) -> Layout:
    """Return the transformers class that computes exactly what this model computes.

    Raises: DataError naming the parts that no class has together.
    """
    if config.logit_softcap:
        raise DataError("transformers: no class has these parts with soft-capped logits (logit_softcap)")
    if config.has_lookup_tables:
        raise DataError("transformers: no class has lookup tables (value_embeddings, ngram_rows, copy_ngrams)")
    name = _rms_class(config) if config.norm == "rmsnorm" else _layer_norm_class(config)
    if not name:
        parts = f"norm={config.norm}, position={config.position}, activation={config.activation}"
        flags = ("qk_norm", "bias", "parallel_residual", "rotary_fraction", "local_window", "head_dim", "n_kv_heads")
        settings = ", ".join(f"{flag}={getattr(config, flag)}" for flag in flags)
        raise DataError(f"transformers: no class combines {parts} with {settings}")
    return LAYOUTS[name]


def _rms_class(config: ModelConfig) -> str:
    if config.position != "rope" or config.parallel_residual or config.rotary_fraction != 1:
        return ""
    if config.activation != "swiglu":
        return "" if config.qk_norm or is_windowed(config) else "ArceeForCausalLM"
    if config.qk_norm:
        return "" if config.bias else "Qwen3ForCausalLM"
    if not is_windowed(config):
        return "LlamaForCausalLM"
    everywhere = len(set(config.local_layers)) == config.n_layers
    return "MistralForCausalLM" if everywhere and not config.bias else "Qwen2ForCausalLM"


def _layer_norm_class(config: ModelConfig) -> str:
    same_heads = config.n_heads == config.n_kv_heads and config.n_heads * config.head_width == config.d_model
    if config.activation == "swiglu" or config.qk_norm or not same_heads:
        return ""
    if config.position == "rope":
        return "" if is_windowed(config) else "GPTNeoXForCausalLM"
    if config.parallel_residual:
        return ""
    return "GPTNeoForCausalLM" if is_windowed(config) else "GPT2LMHeadModel"


def is_windowed(config: ModelConfig) -> bool:
    """Return whether some layer sees less than the whole context."""
    return bool(config.local_window and config.local_layers) and config.local_window < config.context_length


def to_theirs(layout: Layout, config: ModelConfig, weights: Mapping[str, FloatArray]) -> Weights:
    """Return this model's weights under the class's names; zeros for biases that it has and we lack."""
    ours = dict(weights)
    table = position_table(config, ours)
    if table is not None:
        ours["pos_embeddings.weight"] = table  # fixed sinusoids become a learned table of the same values
    theirs: Weights = {}
    for part, i in _each_part(layout.parts, config):
        names = [name.format(i=i) for name in part.ours]
        target = part.theirs.format(i=i)
        rows = [ours[f"{name}.weight"] * _q_factor(layout, config, name) for name in names]
        theirs[f"{target}.weight"] = _join(part, config, rows)
        zeros = [np.zeros(len(row), np.float32) for row in rows]
        biases = [ours.get(f"{name}.bias", zero) for name, zero in zip(names, zeros, strict=True)]
        biases = [bias * _q_factor(layout, config, name) for name, bias in zip(names, biases, strict=True)]
        if _takes_bias(layout, part, f"{names[0]}.bias" in ours):
            theirs[f"{target}.bias"] = _join(part, config, biases)
        elif any(bias.any() for bias in biases):
            raise DataError(f"transformers: {layout.architecture} has no bias in {target}; the model's is not zero")
    return theirs


def _takes_bias(layout: Layout, part: Part, has_one: bool) -> bool:
    """Whether their class has a bias there; nobody has one on embeddings or the head."""
    if "embeddings" in part.ours[0] or part.ours[0] == "head":
        return False
    in_qkv = part.ours[0] in _QKV
    return {"any": has_one, "qkv": in_qkv, "all but qkv": not in_qkv, "all": True}[layout.biases]


def to_ours(
    layout: Layout,
    config: ModelConfig,
    names: Iterable[str],
    get: Callable[[str], FloatArray],
    q_factors: Mapping[int, float],
) -> Weights:
    """Return weights under TinyLM's names.

    Args:   names: all tensors of their file, with the class's prefix; `get` reads one of them as float32.
            q_factors: what to multiply layer i's wq by, so that scores divided by sqrt(D) come out as theirs.
    Raises: FormatError naming what is missing, unknown or misshapen.
    """
    names = frozenset(names)
    left = set(names)
    expected = weight_shapes(config)
    ours: Weights = {}
    for part, i in _each_part(layout.parts, config):
        target = part.theirs.format(i=i)
        left.discard(f"{target}.weight")
        if f"{target}.weight" not in names:
            raise FormatError(f"{target}.weight is missing; the checkpoint is incomplete or of another class")
        keys = [name.format(i=i) for name in part.ours]
        rows = _split(part, config, get(f"{target}.weight"), [expected[f"{key}.weight"] for key in keys], target)
        ours |= {f"{key}.weight": value for key, value in zip(keys, rows, strict=True)}
        if f"{keys[0]}.bias" in expected:
            left.discard(f"{target}.bias")
            shapes = [expected[f"{key}.bias"] for key in keys]
            if f"{target}.bias" in names:
                biases = _split(part, config, get(f"{target}.bias"), shapes, target)
            else:
                biases = [np.zeros(shape, np.float32) for shape in shapes]
            ours |= {f"{key}.bias": value for key, value in zip(keys, biases, strict=True)}
    for i, factor in q_factors.items():
        for name in (f"layers.{i}.attn.wq.weight", f"layers.{i}.attn.wq.bias"):
            if name in ours:
                ours[name] = ours[name] * np.float32(factor)
    unknown = sorted(name for name in left if not _is_buffer(name) and not (config.tied_embeddings and _is_head(name)))
    if unknown:
        raise FormatError(f"tensors that {layout.architecture} has no place for: {', '.join(unknown[:4])}")
    return {name: ours[name] for name in expected}


def _each_part(parts: tuple[Part, ...], config: ModelConfig) -> Iterable[tuple[Part, int]]:
    for part in parts:
        if part.ours[0] == "head" and config.tied_embeddings:
            continue
        for i in range(config.n_layers) if "{i}" in part.theirs else (0,):
            yield part, i


def _is_buffer(name: str) -> bool:
    # Masks and rotation tables that older files store beside the weights.
    return name.endswith((".attn.bias", ".masked_bias", ".attention.bias", "rotary_emb.inv_freq"))


def _is_head(name: str) -> bool:
    return name in ("lm_head.weight", "embed_out.weight")


def _q_factor(layout: Layout, config: ModelConfig, name: str) -> np.float32:
    return np.float32(1 / math.sqrt(config.head_width) if layout.unscaled_attention and name.endswith(".wq") else 1)


def _join(part: Part, config: ModelConfig, ours: list[FloatArray]) -> FloatArray:
    if part.form == "heads":
        heads = [value.reshape(config.n_heads, 1, config.head_width, *value.shape[1:]) for value in ours]
        joined = np.concatenate(heads, axis=1).reshape(-1, *ours[0].shape[1:])
    else:
        joined = np.concatenate(ours) if len(ours) > 1 else ours[0]
    return np.ascontiguousarray(joined.T if part.form == "columns" else joined, np.float32)


def _split(
    part: Part, config: ModelConfig, theirs: FloatArray, shapes: list[tuple[int, ...]], name: str
) -> list[FloatArray]:
    whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    found = theirs.T if part.form == "columns" else theirs
    if found.shape != whole:
        raise FormatError(f"{name} has shape {theirs.shape}; the config asks for {whole}")
    if part.form == "heads":
        grouped = found.reshape(config.n_heads, len(shapes), config.head_width, *whole[1:])
        return [grouped[:, j].reshape(shape).copy() for j, shape in enumerate(shapes)]
    edges = np.cumsum([shape[0] for shape in shapes])[:-1]
    return [np.ascontiguousarray(rows) for rows in np.split(found, edges)]
