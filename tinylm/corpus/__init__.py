"""Text for training: sources, cleaning, copies, the held-out split, the built-in story grammar, token shards.

Knows nothing of models, training or the artifact store.
"""

from __future__ import annotations

from tinylm.corpus.config import CorpusConfig
from tinylm.corpus.prepare import prepare_corpus, read_texts
from tinylm.corpus.sources import NetworkError, corpus_fingerprint, read_documents

__all__ = ["CorpusConfig", "NetworkError", "corpus_fingerprint", "prepare_corpus", "read_documents", "read_texts"]
