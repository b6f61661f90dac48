"""A tiny corpus, its tokenizer and token shards, made once; and a run small enough to repeat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tinylm.config import ModelConfig
from tinylm.corpus.tokens import write_token_shards
from tinylm.progress import NullProgress
from tinylm.tokenizer import Tokenizer, TokenizerConfig, load_tokenizer, train_tokenizer
from tinylm.train.config import TrainConfig

SHAPE = ModelConfig(
    vocab_size=320,
    context_length=32,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    d_model=32,
    d_ff=48,
    qk_norm=True,
    tied_embeddings=False,
)


def make_texts(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    names, things, verbs = ["Tom", "Lily", "Ben", "Mia"], ["ball", "dog", "cake", "tree"], ["saw", "found", "liked"]
    return [
        " ".join(
            f"{random.choice(names)} {random.choice(verbs)} a {random.choice(things)}."
            for _ in range(random.integers(2, 12))
        )
        for _ in range(count)
    ]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokens_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokens artifact with its tokenizer.model beside it."""
    folder = tmp_path_factory.mktemp("tokens")
    texts = make_texts(300, seed=1)
    train_tokenizer(TokenizerConfig(vocab_size=320), texts, folder, NullProgress())
    for split, rows in (("train", texts), ("valid", make_texts(20, seed=2))):
        pq.write_table(pa.table({"text": rows}), folder / f"{split}.parquet")
    write_token_shards(folder, load_tokenizer(folder / "tokenizer.model"), folder, NullProgress())
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokens_dir: Path) -> Tokenizer:
    return load_tokenizer(tokens_dir / "tokenizer.model")


@pytest.fixture(scope="session")
def with_tables() -> ModelConfig:
    """The tiny shape with lookup tables, whose gradients are sparse; one has fewer rows than there are pairs."""
    return SHAPE.model_copy(update={"value_embeddings": True, "ngram_rows": (97, 512), "copy_ngrams": 4})


@pytest.fixture(scope="session")
def tiny_run() -> Callable[..., TrainConfig]:
    """Settings of a small run on two workers; arguments change fields."""
    return _tiny_run


def _tiny_run(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "model": SHAPE,
        "steps": 24,
        "batch_tokens": 128,
        "short_context": 16,
        "loss_rows": 50,
        "device": "cpu",
        "precision": "f32",
        "threads": 2,
        "average": 0.9,
        "samples": 1,
        "card_stories": 0,
        "eval_documents": 4,
    }
    return TrainConfig(**{**values, **changes})
