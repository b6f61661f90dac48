"""GGUF models of the llama, qwen2, qwen3 and gpt2 architectures, with the tokenizer inside the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinylm.config import ModelConfig, parse
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.interop.checkpoint import Checkpoint, Weights, check_weights, split_halves
from tinylm.interop.gguf_file import GGUFFile, read_gguf_file
from tinylm.interop.gguf_names import GPT2_PARTS, LLAMA_PARTS
from tinylm.interop.gguf_tokenizer import read_gguf_tokenizer
from tinylm.interop.hf_tokenizer import find_hf_tokenizer
from tinylm.modelfile import weight_shapes

__all__ = ["ARCHITECTURES", "gguf_config", "read_gguf"]

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
ACTIVATION_KEY = "tinylm.activation"  # ours: llama.cpp has one gelu only, TinyLM's exports say which was trained
T = TypeVar("T", int, float, str, bool)


def read_gguf(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Return the model in a GGUF file, its weights dequantised.

    Args:   tokenizer: a tokenizer.json or .model to use instead of the one in the file.
    Raises: DataError if the model has parts that TinyLM lacks; FormatError if the file is damaged.
    """
    file = read_gguf_file(path)
    config = gguf_config(file)
    if tokenizer is not None:
        ids = {key: file.fields.get(f"tokenizer.ggml.{key}") for key in ("bos_token_id", "eos_token_id")}
        found = find_hf_tokenizer(tokenizer, ids, config.vocab_size)
    else:
        found = read_gguf_tokenizer(file, config.vocab_size)
    weights = _weights(file, config)  # last: what is damaged elsewhere is said before weights become floats
    check_weights(config, weights, str(path))
    types = sorted({tensor.type_name for tensor in file.tensors.values()})
    provenance = {
        "format": f"GGUF {file.fields['general.architecture']}",
        "source": path.name,
        "stored_as": types,
        "tokenizer": found.file,
    }
    return Checkpoint(config, weights, found.model, found.kind, found.bos_id, found.eos_id, found.add_bos, provenance)


def gguf_config(file: GGUFFile) -> ModelConfig:
    """Return the shape that a GGUF file's fields state; errors as `read_gguf`."""
    architecture = _field(file, "general.architecture", str)
    if architecture not in ARCHITECTURES:
        raise DataError(
            f"{file.path}: architecture {architecture} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise FormatError(f"{file.path}: tensor token_embd.weight is missing or not a matrix")
    key = architecture + "."
    heads = _field(file, key + "attention.head_count", int)
    values: dict[str, Any] = {
        "vocab_size": embedding.shape[0],
        "context_length": _field(file, key + "context_length", int),
        "d_model": _field(file, key + "embedding_length", int),
        "n_layers": _field(file, key + "block_count", int),
        "d_ff": _field(file, key + "feed_forward_length", int),
        "n_heads": heads,
        "n_kv_heads": _field(file, key + "attention.head_count_kv", int, heads),
        "tied_embeddings": "output.weight" not in file.tensors,
        "bias": any(name.endswith(".bias") for name in file.tensors),
    }
    values |= _gpt2(file) if architecture == "gpt2" else _llama(file, key, values)
    try:
        return parse(ModelConfig, values, str(file.path))
    except ConfigError as error:
        raise FormatError(str(error)) from None


def _gpt2(file: GGUFFile) -> dict[str, Any]:
    return {
        "norm": "layernorm",
        "position": "learned",
        "activation": _field(file, ACTIVATION_KEY, str, "gelu_tanh"),
        "norm_eps": _field(file, "gpt2.attention.layer_norm_epsilon", float),
    }


def _llama(file: GGUFFile, key: str, values: dict[str, Any]) -> dict[str, Any]:
    if _field(file, key + "expert_count", int, 0):
        raise DataError(f"{file.path}: a mixture of experts is not supported")
    scaling = _field(file, key + "rope.scaling.type", str, "none")
    if scaling != "none" or "rope_freqs.weight" in file.tensors:
        raise DataError(f"{file.path}: RoPE scaling ({scaling}, rope_freqs) is not supported; only plain RoPE is")
    width = _field(file, key + "attention.key_length", int, values["d_model"] // max(values["n_heads"], 1))
    if _field(file, key + "attention.value_length", int, width) != width:
        raise DataError(f"{file.path}: keys and values of different width are not supported")
    rotated = _field(file, key + "rope.dimension_count", int, width)
    window = _field(file, key + "attention.sliding_window", int, 0)
    windowed = 0 < window < values["context_length"]
    return {
        "head_dim": 0 if width * values["n_heads"] == values["d_model"] else width,
        "norm_eps": _field(file, key + "attention.layer_norm_rms_epsilon", float),
        "rope_theta": _field(file, key + "rope.freq_base", float, 10_000.0),
        "rotary_fraction": rotated / width if width else 1.0,
        "qk_norm": "blk.0.attn_q_norm.weight" in file.tensors,
        "local_window": window if windowed else 0,
        "local_layers": tuple(range(min(values["n_layers"], 1024))) if windowed else (),
    }


_MISSING: Any = object()


def _field(file: GGUFFile, key: str, kind: type[T], default: T = _MISSING) -> T:
    value = file.fields.get(key, default)
    if value is _MISSING:
        raise FormatError(f"{file.path}: field {key} is missing")
    if type(value) is not kind:
        raise FormatError(f"{file.path}: field {key} is {str(value)[:40]!r}; expected {kind.__name__}")
    return value


def _weights(file: GGUFFile, config: ModelConfig) -> Weights:
    gpt2 = config.position == "learned"
    shapes = weight_shapes(config)
    left = set(file.tensors)
    weights: Weights = {}
    for theirs, ours in (GPT2_PARTS if gpt2 else LLAMA_PARTS).items():
        for i in range(config.n_layers) if "{i}" in theirs else (0,):
            for ending in (".weight", ".bias"):
                names = [name.format(i=i) + ending for name in ours]
                if names[0] not in shapes:
                    continue
                source = theirs.format(i=i) + ending
                left.discard(source)
                weights |= _split(file, source, {name: shapes[name] for name in names})
    if left:
        raise FormatError(f"{file.path}: tensors that this architecture has no place for: {sorted(left)[:4]}")
    if file.fields["general.architecture"] == "llama":  # stored for RoPE over neighbours
        _split_rotated(weights, config)
    return {name: weights[name] for name in shapes}


def _split(file: GGUFFile, source: str, parts: dict[str, tuple[int, ...]]) -> Weights:
    """Return one of their tensors cut into ours; absent biases are zeros."""
    tensor = file.tensors.get(source)
    if tensor is None:
        if source.endswith(".bias"):
            return {name: np.zeros(shape, np.float32) for name, shape in parts.items()}
        raise FormatError(f"{file.path}: tensor {source} is missing")
    shapes = list(parts.values())
    whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    if tensor.shape != whole:
        raise FormatError(f"{file.path}: tensor {source} has shape {tensor.shape}; the fields ask for {whole}")
    edges = np.cumsum([shape[0] for shape in shapes])[:-1]
    return {
        name: np.ascontiguousarray(rows) for name, rows in zip(parts, np.split(tensor.floats(), edges), strict=True)
    }


def _split_rotated(weights: Weights, config: ModelConfig) -> None:
    for name in weights:
        if ".attn.wq." in name or ".attn.wk." in name:
            heads = config.n_heads if ".wq." in name else config.n_kv_heads
            weights[name] = split_halves(weights[name], heads, config.rotary_dim)
