"""Token shards: layout on disk, document marks, verification, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tinylm.corpus import CorpusConfig, prepare_corpus, read_texts
from tinylm.corpus.tokens import TokenShard, write_token_shards
from tinylm.errors import ConfigError, DataError, FormatError
from tinylm.progress import NullProgress
from tinylm.tokenizer import Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tokenizer]:
    folder = tmp_path_factory.mktemp("corpus")
    prepare_corpus(CorpusConfig(stories=600), folder, NullProgress())
    texts = (text for batch in read_texts(folder / "train.parquet") for text in batch)
    train_tokenizer(TokenizerConfig(vocab_size=600), texts, folder, NullProgress())
    return folder, load_tokenizer(folder / "tokenizer.model")


@pytest.fixture
def shards(prepared: tuple[Path, Tokenizer], tmp_path: Path) -> Path:
    write_token_shards(prepared[0], prepared[1], tmp_path, NullProgress())
    return tmp_path


def test_every_document_comes_back_between_its_marks(prepared: tuple[Path, Tokenizer], shards: Path) -> None:
    corpus, tokenizer = prepared
    for name in ("train", "valid"):
        texts = [text for batch in read_texts(corpus / f"{name}.parquet") for text in batch]
        shard = TokenShard.open(shards, name)
        assert shard.n_documents == len(texts)
        for index, text in enumerate(texts):
            ids = shard.document(index).tolist()
            assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
            assert tokenizer.decode(ids[1:-1]) == text
        summary = json.loads((shards / "summary.json").read_text())[name]
        assert summary["tokens"] == len(shard.tokens) == shard.offsets[-1]
        assert summary["text_bytes"] == shard.text_bytes == sum(len(text.encode()) for text in texts)


def test_layout_on_disk(shards: Path) -> None:
    raw = (shards / "train.bin").read_bytes()
    assert raw[:2] == b"\x01\x00", "BOS, little endian"
    assert np.load(shards / "train_offsets.npy").dtype == np.int64
    assert len(raw) == 2 * np.load(shards / "train_offsets.npy")[-1]
    assert isinstance(TokenShard.open(shards, "train").tokens, np.memmap)


def test_damage_is_noticed(shards: Path) -> None:
    path = shards / "valid.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(FormatError, match=r"valid\.bin: \d+ bytes; expected \d+"):
        TokenShard.open(shards, "valid")
    path.write_bytes(b"\xff\xff" + whole[2:])
    with pytest.raises(FormatError, match="token 65535 found; expected ids below 600"):
        TokenShard.open(shards, "valid")
    path.write_bytes(whole)
    offsets = np.load(shards / "valid_offsets.npy")
    offsets[1] = offsets[2]
    np.save(shards / "valid_offsets.npy", offsets)
    with pytest.raises(FormatError, match="offsets must start at 0 and rise"):
        TokenShard.open(shards, "valid")


def test_missing_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder of token shards"):
        TokenShard.open(tmp_path, "train")


def test_tokenizers_that_do_not_fit_are_refused(prepared: tuple[Path, Tokenizer], tmp_path: Path) -> None:
    corpus, _ = prepared
    tokenizer = load_tokenizer(corpus / "tokenizer.model")
    with pytest.raises(DataError, match="no end-of-document token"):
        write_token_shards(corpus, tokenizer.with_specials(None, None), tmp_path, NullProgress())
    tokenizer.vocab_size = 65_536
    with pytest.raises(ConfigError, match="at most 65535"):
        write_token_shards(corpus, tokenizer, tmp_path, NullProgress())
