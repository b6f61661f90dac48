"""llama2.c's own files: model `.bin` of version 0 and the `tokenizer.bin` beside it, as run.c reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from tinylm.config import ModelConfig
from tinylm.errors import DataError
from tinylm.interop.checkpoint import Checkpoint, interleave
from tinylm.interop.llama2c import V0_ORDER
from tinylm.interop.sentencepiece_proto import read_normalizer
from tinylm.interop.tokenizer_json import check_writable
from tinylm.tokenizer import Piece, Tokenizer, load_tokenizer

__all__ = ["check_llama2c", "tokenizer_bin_path", "write_llama2c"]

_SPACE = "\u2581"
# What run.c computes, whatever the file says.
_FIXED = {
    "norm": "rmsnorm",
    "position": "rope",
    "activation": "swiglu",
    "bias": False,
    "qk_norm": False,
    "logit_softcap": 0.0,
    "rope_theta": 10_000.0,
    "rotary_fraction": 1.0,
    "norm_eps": 1e-5,
    "parallel_residual": False,
    "local_layers": (),
}


def check_llama2c(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """Return notes on an export; DataError naming what run.c lacks."""
    wrong = [
        f"{name}={getattr(config, name)} (needs {value})"
        for name, value in _FIXED.items()
        if getattr(config, name) != value
    ]
    if config.n_heads * config.head_width != config.d_model:
        wrong.append(f"head_dim={config.head_width} (needs {config.d_model // config.n_heads})")
    if wrong:
        raise DataError(f"llama2c: run.c does not have {', '.join(wrong)}")
    if tokenizer is None:
        return []
    if tokenizer.kind != "sentencepiece" or tokenizer.vocab_size != config.vocab_size:
        raise DataError("llama2c: run.c needs a SentencePiece tokenizer with one token per row of the embedding")
    check_writable(tokenizer, "llama2c")
    pieces = tokenizer.pieces()
    if (tokenizer.bos_id, tokenizer.eos_id) != (1, 2) or [piece.text for piece in pieces[3:259]] != _byte_pieces():
        raise DataError("llama2c: run.c needs BOS 1, EOS 2 and the 256 byte tokens from id 3")
    if read_normalizer(tokenizer.serialized()).dummy_prefix:
        return []
    return ["run.c puts a space before every prompt, which this tokenizer does not: prompts may be cut up differently"]


def _byte_pieces() -> list[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


def tokenizer_bin_path(path: Path) -> Path:
    """Return where the tokenizer of the model at `path` is written."""
    return path.with_name("tokenizer.bin")


def write_llama2c(checkpoint: Checkpoint, path: Path, dtype: str) -> None:
    """Write the model to `path` and its tokenizer to `tokenizer.bin` in the same folder."""
    del dtype  # version 0 is float32
    config, weights = checkpoint.config, checkpoint.weights
    vocab = config.vocab_size if config.tied_embeddings else -config.vocab_size
    header = (config.d_model, config.d_ff, config.n_layers, config.n_heads, config.n_kv_heads, vocab)
    with path.open("wb") as file:
        file.write(struct.pack("<7i", *header, config.context_length))
        file.write(_le(weights["tok_embeddings.weight"]))
        for name in V0_ORDER:
            for i in range(config.n_layers):
                rows = weights[f"layers.{i}.{name}.weight"]
                if name in ("attn.wq", "attn.wk"):
                    rows = interleave(rows, rows.shape[0] // config.head_width, config.head_width)
                file.write(_le(rows))
        file.write(_le(weights["norm.weight"]))
        file.write(_rope_tables(config))
        if not config.tied_embeddings:
            file.write(_le(weights["head.weight"]))
    tokenizer_bin_path(path).write_bytes(tokenizer_bin(load_tokenizer(checkpoint.tokenizer).pieces()))


def _le(rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    return rows.astype("<f4").tobytes()


def _rope_tables(config: ModelConfig) -> bytes:
    # Old run.c versions read cos and sin from the file; newer ones skip them.
    rates = config.rope_theta ** (-np.arange(0, config.head_width, 2) / config.head_width)
    angles = np.arange(config.context_length)[:, None] * rates
    return np.stack((np.cos(angles), np.sin(angles))).astype("<f4").tobytes()


def tokenizer_bin(pieces: list[Piece]) -> bytes:
    """Return `tokenizer.bin`: the longest token's length, then score, length and text of each."""
    texts = [_text(piece) for piece in pieces]
    out = [struct.pack("<i", max(map(len, texts)))]
    out += [struct.pack("<fi", piece.score, len(text)) + text for piece, text in zip(pieces, texts, strict=True)]
    return b"".join(out)


def _text(piece: Piece) -> bytes:
    if piece.type == "control":
        return f"\n{piece.text}\n".encode()
    return piece.text.replace(_SPACE, " ").encode()
