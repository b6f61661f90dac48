"""Makes this folder's helpers importable and keeps torch to one thread."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from exported_models import VOCAB

    from tinylm.progress import NullProgress
    from tinylm.tokenizer import TokenizerConfig, train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    rng = random.Random(3)
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "red",
        "mat",
        "and",
        "saw",
        "naïve",
        "",
        "",
        "dogs\nrun,",
        "jump;",
        "eat",
        "12",
        "figs!",
        "aaaa",
        "----",
        "日本",
    ]
    words += ["".join(rng.choices(("ba", "ko", "lin", "ster", "u", "mé"), k=3)) for _ in range(200)]
    texts = [" ".join(rng.choices(words, k=30)) + "    " for _ in range(300)]
    train_tokenizer(TokenizerConfig(vocab_size=VOCAB), texts, folder, NullProgress())
    return (folder / "tokenizer.model").read_bytes()
