"""Tokenizers: exact round trips, the definition of text, foreign models, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from tinylm.corpus.grammar import write_story
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.progress import NullProgress
from tinylm.tokenizer import HuggingFaceTokenizer, Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer

STORIES = [write_story(0, index).text for index in range(1500)]


def train(out_dir: Path, texts: list[str], **settings: int) -> Tokenizer:
    out_dir.mkdir(exist_ok=True)
    train_tokenizer(TokenizerConfig(vocab_size=700, **settings), texts, out_dir, NullProgress())
    return load_tokenizer(out_dir / "tokenizer.model")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train(tmp_path_factory.mktemp("tokenizer"), STORIES)


@given(st.text())
@example("  leading,  double and trailing  ")
@example("\u2581 the space mark itself \u2581\u2581")
@example("<s></s><unk><0x41>\x00\r\n\t\ufeff")
@example("Zoë said “naïve” \U0001f995 가")
@settings(max_examples=300, deadline=None)
def test_every_text_survives(ours: Tokenizer, text: str) -> None:
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert not {0, 1, 2} & set(ids), "control tokens must never come out of text"


@given(st.lists(st.integers(0, 699), max_size=30))
@settings(max_examples=100, deadline=None)
def test_text_is_the_join_of_token_bytes(ours: Tokenizer, ids: list[int]) -> None:
    table = ours.token_bytes()
    assert len(table) == ours.vocab_size == 700
    assert ours.decode(ids) == b"".join(table[token] for token in ids).decode(errors="replace")


def test_special_ids_and_pieces(ours: Tokenizer) -> None:
    pieces = ours.pieces()
    assert (ours.bos_id, ours.eos_id, ours.kind) == (1, 2, "sentencepiece")
    assert [piece.type for piece in pieces[:4]] == ["unknown", "control", "control", "byte"]
    assert sum(piece.type == "byte" for piece in pieces) == 256
    assert ours.token_bytes()[3 + 0xE2] == b"\xe2"
    assert b"\n" in ours.token_bytes(), "the line end should have a token of its own"


def test_batches_equal_single_texts(ours: Tokenizer) -> None:
    texts = [*STORIES[:50], "", "\u2581", "äöü"]
    assert ours.encode_batch(texts) == [ours.encode(text) for text in texts]


def test_training_is_deterministic_and_sensitive(ours: Tokenizer, tmp_path: Path) -> None:
    assert train(tmp_path / "same", STORIES).serialized() == ours.serialized()
    assert train(tmp_path / "other", STORIES[:900]).digest() != ours.digest()


def test_big_text_is_thinned_whatever_its_order(tmp_path: Path) -> None:
    limit = sum(len(text.encode()) for text in STORIES) // 2
    first = train(tmp_path / "a", STORIES, sample_bytes=limit)
    assert train(tmp_path / "b", STORIES[::-1], sample_bytes=limit).digest() == first.digest()
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert 0 < summary["sample_bytes"] <= limit


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="SentencePiece"):
        load_tokenizer(b"no model at all")
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        load_tokenizer(b'{"model": 1}')
    with pytest.raises(DataError, match=r"missing\.model"):
        load_tokenizer(tmp_path / "missing.model")
    with pytest.raises(DataError, match="no text"):
        train(tmp_path, [])
    with pytest.raises(ConfigError, match=r"vocab_size: 700 .* at most \d+"):
        train(tmp_path, ["A dog. A cat."])


def test_lone_surrogates_are_refused(ours: Tokenizer) -> None:
    with pytest.raises(DataError, match="surrogate"):
        ours.encode("broken \ud800 text")
    with pytest.raises(DataError, match="surrogate"):
        ours.encode_batch(["fine", "broken \ud800 text"])


def byte_level() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(STORIES[:300], trainer)
    return tokenizer


def test_byte_level_tokenizer_json() -> None:
    reference = byte_level()
    found = load_tokenizer(reference.to_str().encode())
    assert isinstance(found, HuggingFaceTokenizer)
    assert found.bos_id == found.eos_id == reference.token_to_id("<|endoftext|>")
    assert found.token_bytes()[found.eos_id] == b""
    for text in [*STORIES[:20], "Zoë “naïve” \U0001f995\n\n  x", "a <|endoftext|> b"]:
        ids = found.encode(text)
        assert found.decode(ids) == text
        assert found.eos_id not in ids
        if "<|" not in text:
            assert ids == reference.encode(text, add_special_tokens=False).ids
    assert found.encode_batch(STORIES[:9]) == [found.encode(text) for text in STORIES[:9]]
    assert load_tokenizer(found.serialized()).digest() == found.digest()


def test_llama_style_tokenizer_json() -> None:
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocab |= {piece: 259 + index for index, piece in enumerate(("\u2581", "a", "c", "t", "\u2581a", "ca", "cat"))}
    model = models.BPE(
        vocab, [("\u2581", "a"), ("c", "a"), ("ca", "t")], byte_fallback=True, fuse_unk=True, unk_token="<unk>"
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    found = load_tokenizer(tokenizer.to_str().encode())
    assert found.decode(found.encode("a cat a é")) == "a cat a é"
    assert (found.bos_id, found.eos_id) == (1, 2)
    table = found.token_bytes()
    assert (table[1], table[3 + 0xC3], table[263], table[265]) == (b"", b"\xc3", b" a", b"cat")


def test_unknown_decoders_are_refused() -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0}, "a"))
    with pytest.raises(FormatError, match="decoder"):
        load_tokenizer(tokenizer.to_str().encode()).token_bytes()


def test_llama2c_tokenizer_keeps_its_own_rules(shared_data: Path) -> None:
    found = load_tokenizer(shared_data / "stories260K" / "tok512.model")
    assert (found.vocab_size, found.bos_id, found.eos_id) == (512, 1, 2)
    assert found.encode("Once upon a time") == [403, 407, 261, 378]
    assert found.decode(found.encode("Once upon a time")) == " Once upon a time"


def test_real_text(shared_data: Path, tmp_path: Path) -> None:
    train_texts = pq.read_table(shared_data / "tinystories" / "train.parquet")["text"].to_pylist()
    valid_texts = pq.read_table(shared_data / "tinystories" / "valid.parquet")["text"].to_pylist()
    train_tokenizer(TokenizerConfig(vocab_size=2048), train_texts, tmp_path, NullProgress())
    found = load_tokenizer(tmp_path / "tokenizer.model")
    rows = found.encode_batch(valid_texts)
    assert [found.decode(row) for row in rows] == valid_texts
    bytes_per_token = sum(len(text.encode()) for text in valid_texts) / sum(map(len, rows))
    assert 3.55 < bytes_per_token < 3.8  # 3.62 is the reference figure for 2,048 tokens on this text
