"""Text to tokens: the stages `corpus`, `tokenizer`, `tokens`."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylm.artifacts import ArtifactRef, Store
from tinylm.errors import ConfigError
from tinylm.progress import ProgressReporter
from tinylm.stages.settings import VERSION, NoSettings

if TYPE_CHECKING:
    from tinylm.corpus import CorpusConfig
    from tinylm.tokenizer import TokenizerConfig

__all__ = ["borrowed_tokenizer", "corpus", "tokenizer", "tokens"]


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


def borrowed_tokenizer(store: Store, model: Path) -> ArtifactRef:
    """Return the tokenizer that a model file carries, for training that starts from this model.

    Raises: ConfigError if it is none of SentencePiece's.
    """
    from tinylm.modelfile import read_model

    source = read_model(model)
    if source.header.tokenizer_kind != "sentencepiece":
        kind = source.header.tokenizer_kind
        raise ConfigError(f"model {model}: training needs a sentencepiece tokenizer; this one's is of kind {kind!r}")

    def make(folder: Path) -> dict[str, Any]:
        (folder / "tokenizer.model").write_bytes(source.tokenizer)
        return {"vocab_size": source.config.vocab_size, "of": source.digest}

    return store.build("tokenizer", VERSION["tokenizer"], NoSettings(), {}, make, content={"model": source.digest})


def tokens(store: Store, corpus: ArtifactRef, tokenizer: ArtifactRef, progress: ProgressReporter) -> ArtifactRef:
    """Return both splits as uint16 token shards with document offsets."""

    def make(folder: Path) -> dict[str, Any]:
        from tinylm.corpus.tokens import write_token_shards
        from tinylm.tokenizer import load_tokenizer

        model = load_tokenizer(tokenizer.path / "tokenizer.model")
        return write_token_shards(corpus.path, model, folder, progress)

    return store.build("tokens", VERSION["tokens"], NoSettings(), {"corpus": corpus, "tokenizer": tokenizer}, make)
