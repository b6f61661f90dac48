"""GGUF files written by hand, byte by byte: what is right is read, what is wrong is a named error."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="tensor types and dequantisation come from the gguf package")

from interop_spm import spm_pieces

from tinylm.errors import FormatError, UserError
from tinylm.interop.gguf_file import read_gguf_file
from tinylm.interop.gguf_import import read_gguf
from tinylm.interop.gguf_tokenizer import TOKEN_TYPES
from tinylm.tokenizer import load_tokenizer

SLACK_BYTES = 64_000_000
VOCAB, WIDTH, FF = 300, 32, 64
U32, I32, F32, BOOL, TEXT, LIST = 4, 5, 6, 7, 8, 9
TYPE_F32, TYPE_Q8_0, TYPE_IQ1_S = 0, 8, 19


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def listed(kind: int, values: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def number(kind: int, value: float) -> bytes:
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


@dataclass(frozen=True)
class File:
    """A GGUF file before it becomes bytes; every count and length can be made to lie."""

    fields: dict[str, tuple[int, bytes]]
    tensors: dict[str, tuple[tuple[int, ...], int, bytes]]  # GGUF's own order of dimensions
    magic: bytes = b"GGUF"
    version: int = 3
    more_fields: int = 0
    more_tensors: int = 0
    dims_claim: int | None = None
    offset_shift: int = 0
    tail: bytes = b""
    extra: bytes = b""
    swapped: dict[str, int] = field(default_factory=dict)  # tensor → offset to claim

    def data(self) -> bytes:
        head = self.magic + struct.pack(
            "<IQQ", self.version, len(self.tensors) + self.more_tensors, len(self.fields) + self.more_fields
        )
        head += b"".join(text(key) + struct.pack("<I", kind) + value for key, (kind, value) in self.fields.items())
        head += self.extra
        body, infos = b"", b""
        for name, (dims, kind, values) in self.tensors.items():
            offset = self.swapped.get(name, len(body) + self.offset_shift)
            count = len(dims) if self.dims_claim is None else self.dims_claim
            infos += text(name) + struct.pack("<I", count) + struct.pack(f"<{len(dims)}Q", *dims)
            infos += struct.pack("<IQ", kind, offset % (1 << 64))
            body += values + b"\0" * (-len(values) % 32)
        head += infos
        return head + b"\0" * (-len(head) % 32) + body + self.tail

    def with_field(self, key: str, kind: int, value: bytes) -> File:
        return replace(self, fields={**self.fields, key: (kind, value)})

    def without(self, key: str) -> File:
        return replace(self, fields={name: value for name, value in self.fields.items() if name != key})

    def with_tensor(self, name: str, dims: tuple[int, ...], kind: int, values: bytes) -> File:
        return replace(self, tensors={**self.tensors, name: (dims, kind, values)})

    def without_tensor(self, name: str) -> File:
        return replace(self, tensors={key: value for key, value in self.tensors.items() if key != name})


def llama() -> File:
    pieces = spm_pieces(VOCAB)
    ids = {kind: number for number, kind in TOKEN_TYPES.items()}
    fields = {
        "general.architecture": (TEXT, text("llama")),
        "llama.context_length": (U32, number(U32, 16)),
        "llama.embedding_length": (U32, number(U32, WIDTH)),
        "llama.block_count": (U32, number(U32, 1)),
        "llama.feed_forward_length": (U32, number(U32, FF)),
        "llama.attention.head_count": (U32, number(U32, 4)),
        "llama.attention.head_count_kv": (U32, number(U32, 2)),
        "llama.attention.layer_norm_rms_epsilon": (F32, number(F32, 1e-5)),
        "tokenizer.ggml.model": (TEXT, text("llama")),
        "tokenizer.ggml.tokens": (LIST, listed(TEXT, [text(piece.text) for piece in pieces])),
        "tokenizer.ggml.scores": (LIST, listed(F32, [number(F32, piece.score) for piece in pieces])),
        "tokenizer.ggml.token_type": (LIST, listed(I32, [number(I32, ids[piece.type]) for piece in pieces])),
        "tokenizer.ggml.bos_token_id": (U32, number(U32, 1)),
        "tokenizer.ggml.eos_token_id": (U32, number(U32, 2)),
    }
    shapes = {
        "token_embd.weight": (VOCAB, WIDTH),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.attn_q.weight": (WIDTH, WIDTH),
        "blk.0.attn_k.weight": (WIDTH // 2, WIDTH),
        "blk.0.attn_v.weight": (WIDTH // 2, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, WIDTH),
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.ffn_gate.weight": (FF, WIDTH),
        "blk.0.ffn_up.weight": (FF, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, FF),
        "output_norm.weight": (WIDTH,),
    }
    rng = np.random.default_rng(0)
    tensors = {
        name: (tuple(reversed(shape)), TYPE_F32, rng.standard_normal(shape, np.float32).tobytes())
        for name, shape in shapes.items()
    }
    return File(fields, tensors)


def test_the_file_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for version in (2, 3):
        path.write_bytes(replace(llama(), version=version).data())
        checkpoint = read_gguf(path)
        assert (checkpoint.config.n_kv_heads, checkpoint.config.norm_eps, checkpoint.add_bos) == (2, 1e-5, True)
        tokenizer = load_tokenizer(checkpoint.tokenizer)
        assert tokenizer.adds_prefix_space  # llama.cpp's default where the file is silent
        assert tokenizer.decode(tokenizer.encode("be a bee")) == " be a bee"


@pytest.mark.parametrize("name", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q4_K", "Q6_K"])
def test_quantised_tensors_are_read_as_the_package_reads_them(name: str, tmp_path: Path) -> None:
    import gguf

    kind = gguf.GGMLQuantizationType[name]
    rows = np.random.default_rng(1).standard_normal((4, 256), np.float32)
    try:
        stored = gguf.quants.quantize(rows, kind)
    except NotImplementedError:  # K-quants: any bytes are a valid block
        block, size = gguf.GGML_QUANT_SIZES[kind]
        stored = np.random.default_rng(2).integers(0, 30, (4, 256 // block * size), np.uint8)
    path = tmp_path / "model.gguf"
    path.write_bytes(llama().with_tensor("extra", (256, 4), int(kind), stored.tobytes()).data())
    found = read_gguf_file(path).tensors["extra"].floats()
    assert found.shape == (4, 256)
    assert np.array_equal(found, gguf.quants.dequantize(stored, kind))
    with pytest.raises(FormatError, match="extra"):
        read_gguf(path)


MERGE_FIELDS = {
    "tokenizer.ggml.model": (TEXT, text("gpt2")),
    "tokenizer.ggml.merges": (LIST, listed(TEXT, [text("no such")])),
}
HUGE, MAX64 = 1 << 62, (1 << 64) - 1
BAD: dict[str, Callable[[File], File]] = {
    "magic": lambda f: replace(f, magic=b"GGML"),
    "magic swapped": lambda f: replace(f, magic=b"FUGG"),
    "version 0": lambda f: replace(f, version=0),
    "version 1": lambda f: replace(f, version=1),
    "version big-endian": lambda f: replace(f, version=3 << 24),
    "one field more": lambda f: replace(f, more_fields=1),
    "fields huge": lambda f: replace(f, more_fields=HUGE),
    "one tensor more": lambda f: replace(f, more_tensors=1),
    "tensors huge": lambda f: replace(f, more_tensors=HUGE),
    "field type unknown": lambda f: f.with_field("x", 13, b""),
    "field type huge": lambda f: f.with_field("x", 0xFFFFFFFF, b""),
    "key too long": lambda f: replace(f, more_fields=1, extra=struct.pack("<Q", HUGE) + b"key"),
    "key longest": lambda f: replace(f, more_fields=1, extra=struct.pack("<Q", MAX64) + b"key"),
    "key not utf-8": lambda f: replace(f, more_fields=1, extra=text(b"\xff\xfe") + struct.pack("<I", U32) + b"\0" * 4),
    "key twice": lambda f: replace(
        f, more_fields=1, extra=text("general.architecture") + struct.pack("<I", TEXT) + text("llama")
    ),
    "text too long": lambda f: f.with_field("x", TEXT, struct.pack("<Q", MAX64)),
    "array huge": lambda f: f.with_field("x", LIST, struct.pack("<IQ", U32, HUGE)),
    "array of texts huge": lambda f: f.with_field("x", LIST, struct.pack("<IQ", TEXT, 1 << 40)),
    "array of bytes wraps": lambda f: f.with_field("x", LIST, struct.pack("<IQ", 10, (1 << 61) + 1)),
    "array of arrays": lambda f: f.with_field("x", LIST, listed(LIST, [listed(U32, [])])),
    "array of nonsense": lambda f: f.with_field("x", LIST, listed(99, [b"\0"])),
    "alignment 0": lambda f: f.with_field("general.alignment", U32, number(U32, 0)),
    "alignment 33": lambda f: f.with_field("general.alignment", U32, number(U32, 33)),
    "alignment huge": lambda f: f.with_field("general.alignment", U32, number(U32, 1 << 31)),
    "alignment text": lambda f: f.with_field("general.alignment", TEXT, text("32")),
    "no dimensions": lambda f: f.with_tensor("x", (), TYPE_F32, b""),
    "five dimensions": lambda f: f.with_tensor("x", (1, 1, 1, 1, 1), TYPE_F32, b"\0" * 4),
    "dimension claim": lambda f: replace(f, dims_claim=0xFFFFFFFF),
    "dimension 0": lambda f: f.with_tensor("x", (0,), TYPE_F32, b""),
    "dimensions wrap": lambda f: f.with_tensor("x", (1 << 32, 1 << 32), TYPE_F32, b""),
    "dimension huge": lambda f: f.with_tensor("x", (1 << 63,), TYPE_F32, b""),
    "type unknown": lambda f: f.with_tensor("x", (32,), 255, b"\0" * 32),
    "type not readable": lambda f: f.with_tensor("x", (256,), TYPE_IQ1_S, b"\0" * 256),
    "half a block": lambda f: f.with_tensor("x", (33,), TYPE_Q8_0, b"\0" * 68),
    "data ends early": lambda f: f.with_tensor("x", (64,), TYPE_F32, b"\0" * 32),
    "offset not aligned": lambda f: replace(f, offset_shift=4),
    "offset wraps": lambda f: replace(f, offset_shift=-32),
    "offset past the end": lambda f: replace(f, swapped={"output_norm.weight": 1 << 40}),
    "offsets overlap": lambda f: replace(f, swapped={"output_norm.weight": 0}),
    "no architecture": lambda f: f.without("general.architecture"),
    "architecture a number": lambda f: f.with_field("general.architecture", U32, number(U32, 1)),
    "architecture unknown": lambda f: f.with_field("general.architecture", TEXT, text("mamba")),
    "no width": lambda f: f.without("llama.embedding_length"),
    "width 0": lambda f: f.with_field("llama.embedding_length", U32, number(U32, 0)),
    "width huge": lambda f: f.with_field("llama.embedding_length", U32, number(U32, (1 << 32) - 1)),
    "width a float": lambda f: f.with_field("llama.embedding_length", F32, number(F32, 32.0)),
    "layers 0": lambda f: f.with_field("llama.block_count", U32, number(U32, 0)),
    "layers huge": lambda f: f.with_field("llama.block_count", U32, number(U32, (1 << 32) - 1)),
    "heads 0": lambda f: f.with_field("llama.attention.head_count", U32, number(U32, 0)),
    "heads a list": lambda f: f.with_field("llama.attention.head_count", LIST, listed(U32, [number(U32, 4)])),
    "kv heads 3": lambda f: f.with_field("llama.attention.head_count_kv", U32, number(U32, 3)),
    "experts": lambda f: f.with_field("llama.expert_count", U32, number(U32, 8)),
    "rope scaling": lambda f: f.with_field("llama.rope.scaling.type", TEXT, text("yarn")),
    "rope factors": lambda f: f.with_tensor("rope_freqs.weight", (4,), TYPE_F32, b"\0" * 16),
    "rope odd": lambda f: f.with_field("llama.rope.dimension_count", U32, number(U32, 3)),
    "value width": lambda f: f.with_field("llama.attention.value_length", U32, number(U32, 4)),
    "eps not a number": lambda f: f.with_field(
        "llama.attention.layer_norm_rms_epsilon", F32, number(F32, float("nan"))
    ),
    "weights not finite": lambda f: f.with_tensor("output_norm.weight", (WIDTH,), TYPE_F32, b"\xff" * 4 * WIDTH),
    "norm missing": lambda f: f.without_tensor("output_norm.weight"),
    "embedding missing": lambda f: f.without_tensor("token_embd.weight"),
    "embedding a vector": lambda f: f.with_tensor("token_embd.weight", (VOCAB,), TYPE_F32, b"\0" * 4 * VOCAB),
    "matrix transposed": lambda f: f.with_tensor("blk.0.ffn_up.weight", (FF, WIDTH), TYPE_F32, b"\0" * 4 * FF * WIDTH),
    "tensor unknown": lambda f: f.with_tensor("blk.0.surprise.weight", (32,), TYPE_F32, b"\0" * 128),
    "no tokens": lambda f: f.without("tokenizer.ggml.tokens"),
    "tokens not texts": lambda f: f.with_field("tokenizer.ggml.tokens", LIST, listed(U32, [number(U32, 1)])),
    "tokens none": lambda f: f.with_field("tokenizer.ggml.tokens", LIST, listed(TEXT, [])),
    "tokens too many": lambda f: f.with_field(
        "tokenizer.ggml.tokens", LIST, listed(TEXT, [text(str(i)) for i in range(301)])
    ),
    "tokens alike": lambda f: f.with_field("tokenizer.ggml.tokens", LIST, listed(TEXT, [text("a")] * VOCAB)),
    "scores few": lambda f: f.with_field("tokenizer.ggml.scores", LIST, listed(F32, [number(F32, 0.0)])),
    "types unknown": lambda f: f.with_field("tokenizer.ggml.token_type", LIST, listed(I32, [number(I32, -1)] * VOCAB)),
    "types all normal": lambda f: f.with_field(
        "tokenizer.ggml.token_type", LIST, listed(I32, [number(I32, 1)] * VOCAB)
    ),
    "tokenizer unknown": lambda f: f.with_field("tokenizer.ggml.model", TEXT, text("rwkv")),
    "tokenizer missing": lambda f: f.without("tokenizer.ggml.model"),
    "merges wrong": lambda f: replace(f, fields={**f.fields, **MERGE_FIELDS}),
    "pre-tokenizer unknown": lambda f: replace(
        f, fields={**f.fields, **MERGE_FIELDS, "tokenizer.ggml.pre": (TEXT, text("deepseek"))}
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_is_a_named_error(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(BAD[case](llama()).data())
    tracemalloc.start()
    with pytest.raises(UserError):
        read_gguf(path)
    assert tracemalloc.get_traced_memory()[1] <= path.stat().st_size + SLACK_BYTES
    tracemalloc.stop()


def test_every_truncation_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    whole = llama().data()
    for size in [*range(0, 900), *range(900, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_gguf(path)


def test_every_count_and_length_set_to_the_extremes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    whole = llama().data()
    head = whole[: whole.index(b"output_norm.weight") + 50]
    extremes = [0, 1, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 63, MAX64]
    for at in range(0, len(head), 101):
        for value in extremes:
            path.write_bytes(whole[:at] + struct.pack("<Q", value) + whole[at + 8 :])
            try:
                read_gguf(path)
            except UserError:
                continue


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        read_gguf(tmp_path / "absent.gguf")
