"""The `.bin` and `tokenizer.bin` that TinyLM writes, read by a plain copy of run.c's own steps in NumPy.

Nothing of TinyLM's reader is used: the bytes are taken in run.c's order and the arithmetic is run.c's (RoPE over
neighbours, SwiGLU, RMSNorm with 1e-5, tied or own classifier), so a mistake shared by writer and reader shows.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_models import our_logits, worst
from interop_spm import spm_model

from tinylm.backends import open_backend
from tinylm.config import GenerateOptions, ModelConfig
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.exports import export_checkpoint, export_model
from tinylm.interop.imports import import_model
from tinylm.modelfile import random_weights
from tinylm.tokenizer import load_tokenizer


class RunC:
    """run.c's `Transformer`: `forward` takes one token at a time."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        fields = struct.unpack_from("<7i", data)
        self.dim, hidden, self.layers, self.heads, self.kv_heads, vocab, self.seq_len = fields
        self.head_size = self.dim // self.heads
        shared, vocab = vocab > 0, abs(vocab)
        floats = np.frombuffer(data, "<f4", offset=28)
        at = 0

        def take(*shape: int) -> Any:
            nonlocal at
            at += int(np.prod(shape))
            return floats[at - int(np.prod(shape)) : at].reshape(shape)

        n, kv_dim = self.layers, self.kv_heads * self.head_size
        self.embedding = take(vocab, self.dim)
        self.rms_att, self.wq = take(n, self.dim), take(n, self.dim, self.dim)
        self.wk, self.wv = take(n, kv_dim, self.dim), take(n, kv_dim, self.dim)
        self.wo, self.rms_ffn = take(n, self.dim, self.dim), take(n, self.dim)
        self.w1, self.w2, self.w3 = take(n, hidden, self.dim), take(n, self.dim, hidden), take(n, hidden, self.dim)
        self.rms_final = take(self.dim)
        take(self.seq_len, self.head_size)  # freq_cis, which run.c skips
        self.wcls = self.embedding if shared else take(vocab, self.dim)
        assert at == len(floats)
        self.keys: list[list[Any]] = [[] for _ in range(n)]
        self.values: list[list[Any]] = [[] for _ in range(n)]

    def rotate(self, row: Any, position: int) -> Any:
        out = row.copy()
        for i in range(0, len(row), 2):
            angle = position / 10000.0 ** ((i % self.head_size) / self.head_size)
            cos, sin = np.cos(angle), np.sin(angle)
            out[i], out[i + 1] = row[i] * cos - row[i + 1] * sin, row[i] * sin + row[i + 1] * cos
        return out

    def attend(self, layer: int, query: Any) -> Any:
        out = np.zeros(self.dim, np.float32)
        for head in range(self.heads):
            own = slice(head * self.head_size, (head + 1) * self.head_size)
            group = head // (self.heads // self.kv_heads)
            shared = slice(group * self.head_size, (group + 1) * self.head_size)
            scores = np.array([query[own] @ key[shared] for key in self.keys[layer]]) / np.sqrt(self.head_size)
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            out[own] = sum(w * value[shared] for w, value in zip(weights, self.values[layer], strict=True))
        return out

    def forward(self, token: int, position: int) -> Any:
        x = self.embedding[token].copy()
        for layer in range(self.layers):
            xb = rmsnorm(x, self.rms_att[layer])
            self.keys[layer].append(self.rotate(self.wk[layer] @ xb, position))
            self.values[layer].append(self.wv[layer] @ xb)
            x += self.wo[layer] @ self.attend(layer, self.rotate(self.wq[layer] @ xb, position))
            xb = rmsnorm(x, self.rms_ffn[layer])
            gate = self.w1[layer] @ xb
            x += self.w2[layer] @ (gate / (1 + np.exp(-gate)) * (self.w3[layer] @ xb))
        return self.wcls @ rmsnorm(x, self.rms_final)


def rmsnorm(x: Any, weight: Any) -> Any:
    return weight * (x / np.sqrt((x * x).mean() + 1e-5))


def run_c_vocabulary(path: Path, size: int) -> list[bytes]:
    """Return tokenizer.bin's texts in id order, read as build_tokenizer does."""
    data, at, texts = path.read_bytes(), 4, []
    for _ in range(size):
        _, length = struct.unpack_from("<fi", data, at)
        texts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    assert at == len(data)
    assert max(map(len, texts)) == struct.unpack_from("<i", data)[0]
    return texts


def run_c_piece(text: bytes, previous: int) -> bytes:
    """Return what run.c prints for a token: `decode` drops a space after BOS and turns <0x..> into its byte."""
    if previous == 1 and text.startswith(b" "):
        text = text[1:]
    is_byte = len(text) == 6 and text.startswith(b"<0x")
    return bytes([int(text[3:5], 16)]) if is_byte else text


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_logits_at_every_position(tied: bool, seed: int, tmp_path: Path) -> None:
    shape = {"context_length": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_model": 32, "d_ff": 56}
    config = ModelConfig.model_validate({"vocab_size": 300, "tied_embeddings": tied, **shape})
    weights = {name: rows * 3 for name, rows in random_weights(config, seed).items()}
    checkpoint = Checkpoint(config, weights, spm_model(300), "sentencepiece", 1, 2)
    export_checkpoint(checkpoint, "llama2c", tmp_path / "model.bin")
    tokens = np.random.default_rng(seed).integers(0, 300, 24).tolist()
    program = RunC(tmp_path / "model.bin")
    found = np.stack([program.forward(token, position) for position, token in enumerate(tokens)])
    assert worst(found, our_logits(checkpoint, tokens)) < 1e-4


def test_the_published_story_comes_out_of_our_own_bin(shared_data: Path, tmp_path: Path) -> None:
    published = shared_data / "stories260K"
    model = tmp_path / "model.safetensors"
    import_model(published / "stories260K.bin", model, precision="f32", tokenizer=published / "tok512.bin")
    export_model(model, "llama2c", tmp_path / "model.bin")
    program, vocabulary = RunC(tmp_path / "model.bin"), run_c_vocabulary(tmp_path / "tokenizer.bin", 512)
    assert vocabulary[3:] == run_c_vocabulary(published / "tok512.bin", 512)[3:]
    token, out = 1, b""
    for position in range(256):
        following = int(program.forward(token, position).argmax())
        out += run_c_piece(vocabulary[following], token)
        token = following
    assert out.decode() + "\n" == (published / "expected_greedy.txt").read_text()


def test_our_own_tokenizer_prints_what_we_print(tmp_path: Path) -> None:
    shape = {"context_length": 40, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_model": 32, "d_ff": 56}
    config = ModelConfig.model_validate({"vocab_size": 330, "tied_embeddings": False, **shape})
    checkpoint = Checkpoint(config, random_weights(config, 5), spm_model(330), "sentencepiece", 1, 2)
    checkpoint.save(tmp_path / "model.safetensors", "f32")
    export_model(tmp_path / "model.safetensors", "llama2c", tmp_path / "model.bin")
    vocabulary = run_c_vocabulary(tmp_path / "tokenizer.bin", 330)
    backend = open_backend("numpy", tmp_path / "model.safetensors")
    story = backend.generate("a bee", GenerateOptions(temperature=0, max_new_tokens=30, ignore_eos=True))
    tokens = load_tokenizer(checkpoint.tokenizer).encode("a bee")
    program = RunC(tmp_path / "model.bin")
    rows = [program.forward(token, position) for position, token in enumerate([1, *tokens, *story.token_ids])]
    assert [int(row.argmax()) for row in rows[len(tokens) :]][: len(story.token_ids)] == list(story.token_ids)
    printed = b"".join(run_c_piece(vocabulary[token], 0) for token in story.token_ids if token > 2)
    assert printed.decode(errors="replace") == story.text
