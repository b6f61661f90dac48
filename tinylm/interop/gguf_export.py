"""GGUF files that llama.cpp runs: architectures llama, qwen3 and gpt2, in f32, f16, q8_0 or q4_0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.backends.numpy_backend import position_table
from tinylm.config import ModelConfig
from tinylm.errors import DataError
from tinylm.interop.checkpoint import Checkpoint, FloatArray, interleave
from tinylm.interop.gguf_file import gguf_package
from tinylm.interop.gguf_import import ACTIVATION_KEY
from tinylm.interop.gguf_names import GPT2_PARTS, LLAMA_PARTS
from tinylm.interop.gguf_tokenizer import TOKEN_TYPES
from tinylm.interop.sentencepiece_proto import read_normalizer
from tinylm.interop.tokenizer_json import PRE_TOKENIZERS, check_writable
from tinylm.modelfile import is_matrix, weight_shapes
from tinylm.tokenizer import Piece, Tokenizer, load_tokenizer

__all__ = ["check_gguf", "write_gguf"]

_TYPES = {"f32": "F32", "f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
_BLOCK = 32  # columns that share one scale
_TYPE_IDS = {kind: number for number, kind in TOKEN_TYPES.items()}
_GELU_NOTE = (
    "llama.cpp computes the tanh form of GELU; this model was trained with the erf form (they differ by < 5e-4)"
)


def check_gguf(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """Return notes on an export; DataError naming what llama.cpp's architectures lack."""
    architecture = _architecture(config)
    notes: list[str] = []
    if tokenizer is not None:
        _check_tokenizer(tokenizer)
        notes += _tokenizer_notes(tokenizer)
    notes += [_GELU_NOTE] if architecture == "gpt2" and config.activation == "gelu" else []
    if config.position == "sinusoidal":
        notes.append("the fixed sinusoids are written as a learned position table of the same values")
    return notes


def _architecture(config: ModelConfig) -> str:
    if config.norm == "layernorm":
        fixed: dict[str, Any] = {"qk_norm": False, "parallel_residual": False, "local_layers": (), "logit_softcap": 0.0}
        wrong = _differences(config, {**fixed, "n_kv_heads": config.n_heads})
        if config.position == "rope":
            wrong.append("position=rope (needs learned or sinusoidal)")
        if config.activation not in ("gelu", "gelu_tanh"):
            wrong.append(f"activation={config.activation} (needs gelu)")
        name = "gpt2"
    else:
        fixed = {"position": "rope", "activation": "swiglu", "parallel_residual": False, "logit_softcap": 0.0}
        fixed |= {"local_layers": (), "rotary_fraction": 1.0}
        wrong = _differences(config, fixed | ({"bias": False} if config.qk_norm else {}))
        name = "qwen3" if config.qk_norm else "llama"
    if config.norm == "layernorm" and config.n_heads * config.head_width != config.d_model:
        wrong.append(f"head_dim={config.head_width} (needs {config.d_model // config.n_heads})")
    if wrong:
        raise DataError(f"gguf: llama.cpp's {name} architecture does not have {', '.join(wrong)}")
    return name


def _differences(config: ModelConfig, fixed: dict[str, Any]) -> list[str]:
    found = {name: getattr(config, name) for name in fixed}
    return [f"{name}={found[name]} (needs {value})" for name, value in fixed.items() if found[name] != value]


def _check_tokenizer(tokenizer: Tokenizer) -> None:
    if tokenizer.kind == "sentencepiece":
        check_writable(tokenizer, "gguf")
        return
    _byte_level_settings(tokenizer.serialized())


def _tokenizer_notes(tokenizer: Tokenizer) -> list[str]:
    if tokenizer.kind != "sentencepiece" or not read_normalizer(tokenizer.serialized()).collapse_spaces:
        return []
    return ["llama.cpp keeps runs of spaces, which this tokenizer collapses"]


def write_gguf(checkpoint: Checkpoint, path: Path, dtype: str) -> None:
    """Write the model to `path` with its tokenizer inside."""
    gguf = gguf_package()
    architecture = _architecture(checkpoint.config)
    writer = gguf.GGUFWriter(path, architecture)
    _write_shape(writer, checkpoint.config, architecture)
    _write_tokenizer(writer, checkpoint)
    writer.add_file_type(getattr(gguf.LlamaFileType, "ALL_F32" if dtype == "f32" else f"MOSTLY_{_TYPES[dtype]}"))
    writer.add_string("tinylm.provenance", json.dumps(checkpoint.provenance, sort_keys=True, default=str))
    for name, rows in _tensors(checkpoint, architecture).items():
        _add_tensor(writer, name, rows, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, config: ModelConfig, architecture: str) -> None:
    writer.add_name("TinyLM model")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(config.norm_eps)
        writer.add_string(ACTIVATION_KEY, config.activation)
        return
    writer.add_vocab_size(config.vocab_size)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.rotary_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)


def _tensors(checkpoint: Checkpoint, architecture: str) -> dict[str, FloatArray]:
    """Return the model's weights under GGUF's names and in its row order."""
    config = checkpoint.config
    ours = dict(checkpoint.weights)
    table = position_table(config, ours)
    if table is not None:
        ours["pos_embeddings.weight"] = table
    shapes = weight_shapes(config)
    found: dict[str, FloatArray] = {}
    for theirs, parts in (GPT2_PARTS if architecture == "gpt2" else LLAMA_PARTS).items():
        for i in range(config.n_layers) if "{i}" in theirs else (0,):
            for ending in (".weight", ".bias"):
                names = [part.format(i=i) + ending for part in parts]
                if names[0] in ours:
                    rows = [_rotated(name, ours[name], config, architecture) for name in names]
                    found[theirs.format(i=i) + ending] = np.concatenate(rows) if len(rows) > 1 else rows[0]
                elif ending == ".bias" and architecture == "gpt2" and _has_bias(theirs):  # llama.cpp insists
                    rows_out = sum(shapes[part.format(i=i) + ".weight"][0] for part in parts)
                    found[theirs.format(i=i) + ending] = np.zeros(rows_out, np.float32)
    return found


def _has_bias(theirs: str) -> bool:
    return theirs not in ("token_embd", "position_embd", "output")


def _rotated(name: str, rows: FloatArray, config: ModelConfig, architecture: str) -> FloatArray:
    # llama.cpp turns neighbours in the llama architecture and halves in qwen3, as those models' own files did.
    if architecture == "llama" and (".attn.wq." in name or ".attn.wk." in name):
        return interleave(rows, rows.shape[0] // config.head_width, config.head_width)
    return rows


def _add_tensor(writer: Any, name: str, rows: FloatArray, dtype: str) -> None:
    gguf = gguf_package()
    kind = dtype if is_matrix(name, rows.shape) and name != "position_embd.weight" else "f32"
    if kind == "q4_0" and name in ("token_embd.weight", "output.weight"):
        kind = "q8_0"  # as in our own int4 files: there four bits cost the most quality
    if kind in ("q8_0", "q4_0") and rows.shape[1] % _BLOCK:
        kind = "f16"  # as llama.cpp's own converter does with rows that are not whole blocks
    type_id = gguf.GGMLQuantizationType[_TYPES[kind]]
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(rows), type_id), raw_dtype=type_id)


def _write_tokenizer(writer: Any, checkpoint: Checkpoint) -> None:
    tokenizer = load_tokenizer(checkpoint.tokenizer)
    pieces = tokenizer.pieces()
    padding = range(len(pieces), checkpoint.config.vocab_size)
    pieces = [*pieces, *(Piece(f"[PAD{i}]", 0.0, "unused") for i in padding)]
    texts = [piece.text or f"[UNUSED{i}]" for i, piece in enumerate(pieces)]
    if tokenizer.kind == "sentencepiece":
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores([piece.score for piece in pieces])
        writer.add_add_space_prefix(read_normalizer(checkpoint.tokenizer).dummy_prefix)
    else:
        pre, merges = _byte_level_settings(checkpoint.tokenizer)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(merges)
    writer.add_token_list(texts)
    writer.add_token_types([_TYPE_IDS[piece.type] for piece in pieces])
    if checkpoint.bos_id is not None:
        writer.add_bos_token_id(checkpoint.bos_id)
    if checkpoint.eos_id is not None:
        writer.add_eos_token_id(checkpoint.eos_id)
    writer.add_add_bos_token(checkpoint.add_bos and checkpoint.bos_id is not None)
    writer.add_add_eos_token(False)


def _byte_level_settings(tokenizer_json: bytes) -> tuple[str, list[str]]:
    """Return llama.cpp's name of the pre-tokenizer and the merges; DataError where it has no name."""
    settings = json.loads(tokenizer_json)
    model = settings.get("model") or {}
    before = settings.get("pre_tokenizer") or {}
    plain = before.get("type") == "ByteLevel" and before.get("use_regex", True) and not before.get("add_prefix_space")
    pre = "gpt-2" if plain else _named_split(before)
    if model.get("type") != "BPE" or settings.get("normalizer") or not pre:
        raise DataError("gguf: only SentencePiece BPE and byte-level BPE with a known pre-tokenizer can be written")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return pre, merges


def _named_split(before: dict[str, Any]) -> str:
    for step in before.get("pretokenizers") or []:
        pattern = (step.get("pattern") or {}).get("Regex")
        for name, split in PRE_TOKENIZERS.items():
            if split is not None and pattern == split:
                return name
    return ""
