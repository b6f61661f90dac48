"""Copies and near-copies: content hashes, MinHash signatures, 13-gram overlap.

All of it works on fixed-size rows per document, so memory does not grow with the length of the texts.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIGNATURE", "content_hash", "exact_copies", "near_copies", "ngram_hashes", "signature"]

SIGNATURE = 64  # minima per document; the estimate of a Jaccard index has a standard error of at most 0.0625
_BAND = 4  # minima that must agree to compare a pair: at Jaccard 0.8 one of the 16 bands agrees in 99.98 % of cases
_SHINGLE = 5  # words
_PRIME = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: Knuth's multiplicative hash

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]

_rng = np.random.Generator(np.random.Philox(key=0x7451))
_MULTIPLY: U32 = _rng.integers(0, 2**32, SIGNATURE, dtype=np.uint32) | np.uint32(1)
_ADD: U32 = _rng.integers(0, 2**32, SIGNATURE, dtype=np.uint32)


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class _WordHashes(dict[str, int]):
    """The hash of each word met so far; emptied when odd text (digits, noise) fills it."""

    def __missing__(self, word: str) -> int:
        if len(self) >= 1 << 18:
            self.clear()
        self[word] = value = _hash64(word)
        return value


_word_hash = _WordHashes()


def content_hash(words: list[str]) -> int:
    """Return the 64-bit hash of a document's words: equal for copies that differ in case, blanks, punctuation."""
    return _hash64(" ".join(words))


def ngram_hashes(words: list[str], n: int) -> U64:
    """Return the 64-bit hash of each run of `n` words; of the whole document if it is shorter."""
    hashes = np.fromiter(map(_word_hash.__getitem__, words), np.uint64, len(words))
    n = min(n, len(hashes))
    total = np.zeros(len(hashes) - n + 1 if n else 0, dtype=np.uint64)
    for offset in range(n):
        total = total * _PRIME + hashes[offset : len(hashes) - n + 1 + offset]
    return total ^ (total >> np.uint64(29))


def signature(words: list[str]) -> U32:
    """Return the document's MinHash: uint32 (SIGNATURE,) over its word 5-grams."""
    grams = (ngram_hashes(words, _SHINGLE) >> np.uint64(32)).astype(np.uint32)
    lowest: U32 = (grams[:, None] * _MULTIPLY + _ADD).min(axis=0, initial=2**32 - 1)
    return lowest


def exact_copies(hashes: U64) -> NDArray[np.bool_]:
    """Return which of `hashes` (N,) occurred before."""
    copies = np.ones(len(hashes), dtype=np.bool_)
    copies[np.unique(hashes, return_index=True)[1]] = False
    return copies


def near_copies(signatures: U32, threshold: float) -> NDArray[np.bool_]:
    """Return which documents resemble an earlier one.

    Args:    signatures: uint32 (N, SIGNATURE), in document order.
             threshold: estimated Jaccard index of word 5-grams from which a document is a copy.
    Source:  MinHash with banded locality-sensitive hashing (Broder 1997); candidates are checked by estimate.
    """
    copies = np.zeros(len(signatures), dtype=np.bool_)
    for start in range(0, SIGNATURE, _BAND):
        band = np.ascontiguousarray(signatures[:, start : start + _BAND]).astype(np.uint64)
        keys = band[:, 0]
        for column in range(1, _BAND):
            keys = (keys * _PRIME) ^ band[:, column] ^ (keys >> np.uint64(31))
        later, earlier = _same_key_pairs(keys)
        copies[later[_similar(signatures, later, earlier, threshold)]] = True
    return copies


def _same_key_pairs(keys: U64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return index pairs (later, earlier): each document with the first and the last one before it of its key."""
    order = np.argsort(keys, kind="stable").astype(np.int64)
    ordered = keys[order]
    is_first = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(keys)]
    places = np.flatnonzero(~is_first)
    firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(keys)), 0))[places]
    return np.tile(order[places], 2), np.concatenate((order[places - 1], order[firsts]))


def _similar(signatures: U32, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    chunk = 1 << 16
    parts = [
        (signatures[left[at : at + chunk]] == signatures[right[at : at + chunk]]).mean(axis=1) >= threshold
        for at in range(0, len(left), chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)
