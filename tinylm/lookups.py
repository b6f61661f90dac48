"""What a text says about its own next token, looked up in tables: vectors that are added to embeddings.

Axis letters: B batch rows, P positions of the text, T last positions asked for, C model width, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinylm.config import NGRAM_FACTOR, ModelConfig
from tinylm.weights import copy_rows

__all__ = ["CopyEmbeddings", "NGramEmbeddings"]


class NGramEmbeddings(nn.ModuleDict):
    """One table per n = 2, 3, …: a vector of width C for each n-gram of tokens, which share rows by their hash."""

    def __init__(self, config: ModelConfig) -> None:
        orders = enumerate(config.ngram_rows, start=2)
        super().__init__({str(n): _NGramTable(rows, config.d_model) for n, rows in orders})
        self._rows = config.ngram_rows

    def leave_out(self, share: float, seed: int, step: int) -> None:
        """Let training, until the next call, do without a share of all rows: a function of seed and step.

        The same rows for a whole batch: what a step learns does not depend on who computes which of its texts.
        """
        draw = np.random.Generator(np.random.Philox(key=[seed, step]))
        for kept in self.buffers():
            kept.copy_(torch.from_numpy(draw.random(len(kept), np.float32) >= share))

    def forward(self, text: Tensor, count: int) -> Tensor:
        """Return the sum of the vectors of the n-grams that end at each of the last `count` tokens of text (B, P)."""
        total = torch.zeros((), device=text.device)
        for n, (table, rows) in enumerate(zip(self.values(), self._rows, strict=True), start=2):
            row = torch.zeros_like(text[:, -count:])
            for back in reversed(range(n)):  # from the oldest token on; zeros stand before the first
                row = (row * NGRAM_FACTOR + _moved(text, back, 0)[:, -count:]) % rows
            total = total + table(row)
        return total


class _NGramTable(nn.Embedding):
    kept: Tensor  # bool (rows): false for those that training leaves out

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width)
        self.register_buffer("kept", torch.ones(rows, dtype=torch.bool), persistent=False)

    def forward(self, row: Tensor) -> Tensor:
        if not self.training:
            return super().forward(row)
        kept = self.kept[row].nonzero(as_tuple=True)  # no others: rows move even with a gradient of zeros
        vectors = self.weight.new_zeros(*row.shape, self.embedding_dim)
        return vectors.index_put(kept, super().forward(row[kept]))


class CopyEmbeddings(nn.Embedding):
    """Vectors for what came after the last earlier use of the longest n-gram that ends here, and for its length.

    What a trained model's induction heads look for (Olsson et al., 2209.11895), told to a small one from its first
    step on. Row t is for the token t, row V + n for n-grams of length n; 0 where the token is new to the text.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(copy_rows(config), config.d_model)
        self._longest, self._vocab_size = config.copy_ngrams, config.vocab_size

    def of_text(self, text: Tensor, count: int) -> Tensor:
        """Return the sum of both vectors for each of the last `count` tokens of text (B, P): (B, T, C)."""
        after, lengths = self._last_uses(text, count)
        vectors: Tensor = self(lengths + self._vocab_size)
        known = lengths.nonzero(as_tuple=True)  # no others: rows move even with a gradient of zeros
        return vectors.index_put(known, self(text.gather(1, after)[known]), accumulate=True)

    def _last_uses(self, text: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the position after the last earlier use and the length of the n-gram, each int64 (B, T)."""
        V = self._vocab_size
        after = lengths = ranks = torch.zeros_like(text)  # equal n-grams have equal ranks
        for n in range(1, self._longest + 1):
            key = ranks * (V + 1) + _moved(text, n - 1, V)
            order = key.argsort(dim=1, stable=True)  # equal ones become neighbours, the earlier one first
            ordered = key.gather(1, order)
            same = ordered[:, 1:] == ordered[:, :-1]
            found = _placed(torch.where(same, order[:, :-1] + 1, 0), order)  # 0: no use
            ranks = _placed((~same).cumsum(dim=1), order)
            after, lengths = torch.where(found > 0, found, after), lengths + (found > 0)
        return after[:, -count:], lengths[:, -count:]


def _placed(values: Tensor, order: Tensor) -> Tensor:
    """Return 0 at the place order[:, 0] and `values` (B, P - 1) at those that follow."""
    return torch.zeros_like(order).scatter(1, order[:, 1:], values)


def _moved(text: Tensor, places: int, fill: int) -> Tensor:
    """Return, for each position of text (B, P), the token so many places before it."""
    return F.pad(text, (places, 0), value=fill)[:, : text.shape[1]]
