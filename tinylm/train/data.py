"""Training rows in a stateless order: batch t is a pure function of (seed, t)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinylm.corpus.tokens import TokenShard

__all__ = ["TokenStream"]


class TokenStream:
    """All documents of a shard, reshuffled every epoch, read as one endless stream of tokens."""

    def __init__(self, shard: TokenShard, seed: int) -> None:
        self._shard, self._seed = shard, seed
        self._lengths = np.diff(shard.offsets)
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)
        self._starts: NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def epoch_tokens(self) -> int:
        """Tokens in one pass over the data."""
        return len(self._shard.tokens)

    def rows(self, first_token: int, rows: int, length: int) -> NDArray[np.int64]:
        """Return `rows` rows of `length` + 1 tokens, int64; row i starts at token first_token + i * length.

        Each row's last token is the next row's first, so inputs are [:, :-1] and targets [:, 1:].
        """
        flat = self._slice(first_token, rows * length + 1)
        index = np.arange(rows)[:, None] * length + np.arange(length + 1)
        return flat[index]  # type: ignore[no-any-return]

    def _slice(self, start: int, count: int) -> NDArray[np.int64]:
        pieces: list[NDArray[np.uint16]] = []
        while count > 0:
            epoch, place = divmod(start, self.epoch_tokens)
            self._enter(epoch)
            at = int(np.searchsorted(self._starts, place, side="right")) - 1
            piece = self._shard.document(int(self._order[at]))[place - int(self._starts[at]) :][:count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(pieces).astype(np.int64)

    def _enter(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._order = np.random.Generator(np.random.Philox(key=[self._seed, epoch])).permutation(
            self._shard.n_documents
        )
        lengths = self._lengths[self._order]
        self._starts = np.cumsum(lengths) - lengths
        self._epoch = epoch
