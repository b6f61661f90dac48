"""PyTorch models as scorers for `tinylm.scoring.evaluate`, which says what a document costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from tinylm.config import ModelConfig, parse
from tinylm.errors import DataError, FormatError
from tinylm.model import GPT
from tinylm.modelfile import read_model
from tinylm.scoring import Evaluation
from tinylm.tokenizer import Tokenizer, load_tokenizer
from tinylm.train.loss import token_nats
from tinylm.train.workers import one_thread

__all__ = ["TorchScorer", "load_base", "load_checkpoint", "score_documents", "torch_scorer"]


def load_checkpoint(checkpoint_dir: Path) -> GPT:
    """Return the model of a finished training run, ready to evaluate.

    Raises: DataError if a file is missing; FormatError if the weights do not fit the settings.
    """
    settings, weights = checkpoint_dir / "config.json", checkpoint_dir / "model.safetensors"
    for path in (settings, weights):
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected a finished training run in {checkpoint_dir}")
    model = GPT(parse(ModelConfig, json.loads(settings.read_bytes()), str(settings)))
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise FormatError(f"{weights}: does not hold the weights of {settings.name} ({error})") from None
    return model.eval()


def load_base(path: Path, tokenizer: Tokenizer) -> GPT:
    """Return the model of a finished run's directory or of a model file.

    Raises: DataError or FormatError as `load_checkpoint` and `read_model`; DataError if its vocabulary is not
        the tokenizer's.
    """
    if path.is_dir():
        model = load_checkpoint(path)
    else:
        file = read_model(path)
        model = GPT(file.config)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in file.dequantized().items()})
    if model.config.vocab_size != tokenizer.vocab_size:
        raise DataError(
            f"{path}: has a vocabulary of {model.config.vocab_size}, the tokens one of {tokenizer.vocab_size}; "
            "make the tokens with the model's own tokenizer"
        )
    return model


def torch_scorer(checkpoint_dir: Path) -> TorchScorer:
    """Return the scorer of a finished training run's directory."""
    return TorchScorer(load_checkpoint(checkpoint_dir), load_tokenizer(checkpoint_dir / "tokenizer.model"))


class TorchScorer:
    """Scores texts with a PyTorch model."""

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    def __call__(self, texts: Iterable[str]) -> Iterator[Evaluation]:
        """Yield one score per text, in order."""
        texts = list(texts)
        documents = [self._document(ids) for ids in self._tokenizer.encode_batch(texts)]
        nats = score_documents(self._model, documents, self._model.config.context_length)
        for text, document, cost in zip(texts, documents, nats, strict=True):
            yield Evaluation(float(cost), max(0, len(document) - 1), len(text.encode()))

    def _document(self, ids: list[int]) -> NDArray[np.int64]:
        begin = [] if self._tokenizer.bos_id is None else [self._tokenizer.bos_id]
        end = [] if self._tokenizer.eos_id is None else [self._tokenizer.eos_id]
        return np.array(begin + ids + end, np.int64)


def score_documents(
    model: GPT, documents: Sequence[NDArray[np.integer]], window: int, batch_tokens: int = 4096, threads: int = 1
) -> NDArray[np.float64]:
    """Return each document's cost in nats, float64 (documents,).

    Args: documents: token ids each, BOS and EOS included.
          window: positions scored together; pieces of similar length share a batch of at most `batch_tokens`.
          threads: batches scored at the same time, for a model on the CPU.
    """
    pieces = [(i, at) for i, d in enumerate(documents) for at in range(0, max(0, len(d) - 1), window)]
    pieces.sort(key=lambda piece: min(window, len(documents[piece[0]]) - 1 - piece[1]))
    size = max(1, batch_tokens // window)
    groups = [pieces[start : start + size] for start in range(0, len(pieces), size)]
    nats = np.zeros(len(documents))
    was_training = model.training
    model.eval()
    with ThreadPoolExecutor(threads, "evaluation", one_thread if threads > 1 else None) as pool:
        scored = pool.map(lambda group: _score_group(model, documents, group, window), groups)
        for group, costs in zip(groups, scored, strict=True):
            for (i, _), cost in zip(group, costs, strict=True):
                nats[i] += cost
    model.train(was_training)
    return nats


def _score_group(
    model: GPT, documents: Sequence[NDArray[np.integer]], group: list[tuple[int, int]], window: int
) -> list[float]:
    """Return the cost of each piece (document, first position) of up to `window` positions."""
    slices = [documents[i][at : at + window + 1].astype(np.int64) for i, at in group]
    padded = np.zeros((len(group), max(map(len, slices))), np.int64)
    for row, piece in enumerate(slices):
        padded[row, : len(piece)] = piece
    tokens = torch.from_numpy(padded).to(model.tok_embeddings.weight.device)
    costs = token_nats(model, tokens[:, :-1], tokens[:, 1:]).double().cpu().numpy()
    return [float(cost[: len(piece) - 1].sum()) for cost, piece in zip(costs, slices, strict=True)]
