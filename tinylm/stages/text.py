"""Text to tokens: the stages `corpus`, `tokenizer`, `tokens`."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylm.artifacts import ArtifactRef, Store
from tinylm.progress import ProgressReporter
from tinylm.stages.settings import VERSION, NoSettings

if TYPE_CHECKING:
    from tinylm.corpus import CorpusConfig
    from tinylm.tokenizer import TokenizerConfig

__all__ = ["corpus", "tokenizer", "tokens"]


def corpus(store: Store, config: CorpusConfig, progress: ProgressReporter) -> ArtifactRef:
    """Return train.parquet and valid.parquet: cleaned, without copies, split by content."""
    from tinylm.corpus import corpus_fingerprint, prepare_corpus

    return store.build(
        "corpus",
        VERSION["corpus"],
        config,
        {},
        lambda folder: prepare_corpus(config, folder, progress),
        content={"source": corpus_fingerprint(config)},
    )


def tokenizer(store: Store, config: TokenizerConfig, corpus: ArtifactRef, progress: ProgressReporter) -> ArtifactRef:
    """Return tokenizer.model, trained on the corpus's training split only."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.corpus import read_texts
        from tinylm.tokenizer import load_tokenizer, train_tokenizer

        train_tokenizer(config, chain.from_iterable(read_texts(corpus.path / "train.parquet")), folder, progress)
        return {"vocab_size": load_tokenizer(folder / "tokenizer.model").vocab_size}

    return store.build("tokenizer", VERSION["tokenizer"], config, {"corpus": corpus}, make)


def tokens(store: Store, corpus: ArtifactRef, tokenizer: ArtifactRef, progress: ProgressReporter) -> ArtifactRef:
    """Return both splits as uint16 token shards with document offsets."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.corpus.tokens import write_token_shards
        from tinylm.tokenizer import load_tokenizer

        model = load_tokenizer(tokenizer.path / "tokenizer.model")
        return write_token_shards(corpus.path, model, folder, progress)

    return store.build("tokens", VERSION["tokens"], NoSettings(), {"corpus": corpus, "tokenizer": tokenizer}, make)
