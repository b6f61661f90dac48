"""What every backend offers, and the generation loop shared by those that only know one forward step."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tinylm.backends.sampling import Sampler
from tinylm.config import GenerateOptions, ModelConfig
from tinylm.errors import DataError
from tinylm.modelfile import ModelFile, read_model
from tinylm.tokenizer import load_tokenizer

__all__ = ["Backend", "FloatArray", "Generation", "LoadedModel", "StepBackend", "TextCoder"]

FloatArray = NDArray[np.float32]
FinishReason = Literal["stop", "length", "context_full"]


class TextCoder(Protocol):
    """The part of a tokenizer that generation needs."""

    @property
    def adds_prefix_space(self) -> bool:
        """Whether every text is encoded with a space before it."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`."""


class _Bytes:
    """Stands in where a model has no tokenizer (random weights): ids below 256 are bytes, others have no text."""

    adds_prefix_space = False

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(token for token in ids if token < 256).decode(errors="replace")


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory: float32 weights by name, and how its text begins and ends."""

    config: ModelConfig
    weights: dict[str, FloatArray]
    tokenizer: TextCoder
    bos_id: int | None
    eos_id: int | None
    add_bos: bool

    @classmethod
    def read(cls, path: Path) -> LoadedModel:
        """Return the model file at `path` with its weights dequantised."""
        return cls.of(read_model(path))

    @classmethod
    def of(cls, file: ModelFile) -> LoadedModel:
        """Return a model file's content with its weights dequantised."""
        header = file.header
        tokenizer = _Bytes() if header.tokenizer_kind == "bytes" else load_tokenizer(file.tokenizer)
        return cls(file.config, file.dequantized(), tokenizer, header.bos_id, header.eos_id, header.add_bos)

    def prompt_tokens(self, prompt: str) -> list[int]:
        """Return the tokens that stand for `prompt`: BOS where the model wants it, then the text.

        Raises: DataError for an empty prompt when the model has no BOS.
        """
        tokens = self.tokenizer.encode(prompt)
        if self.bos_id is not None and (self.add_bos or not tokens):
            tokens = [self.bos_id, *tokens]
        if not tokens:
            raise DataError("prompt: empty, and the model has no token to begin with; give at least one character")
        return tokens


@dataclass(frozen=True)
class Generation:
    """One continued prompt and how long it took."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    prompt_tokens: int
    first_token_s: float
    total_s: float

    @property
    def tokens_per_s(self) -> float:
        """Rate of the tokens after the first; 0 where there are none."""
        after_s = self.total_s - self.first_token_s
        return (len(self.token_ids) - 1) / after_s if len(self.token_ids) > 1 and after_s > 0 else 0.0


class Backend(Protocol):
    """One way to run a model. Open it with `open_backend`; close it when done."""

    name: ClassVar[str]

    def logits(self, tokens: Sequence[int]) -> FloatArray:
        """Return the scores (T, V) of the next token after each of `tokens`."""

    def generate(self, prompt: str, options: GenerateOptions) -> Generation:
        """Return the continuation of `prompt`."""

    def close(self) -> None:
        """Give back what the backend holds."""


class StepBackend(ABC):
    """A backend that computes one forward step; sampling and stopping are done here, the same for all."""

    name: ClassVar[str]

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    @abstractmethod
    def reset(self) -> None:
        """Forget the text so far."""

    @abstractmethod
    def step(self, tokens: Sequence[int]) -> FloatArray:
        """Return the logits (T, V) after each of `tokens`, which continue the text so far."""

    def close(self) -> None:
        """Drop the cache; weights go when the last reference does."""
        self.reset()

    def logits(self, tokens: Sequence[int]) -> FloatArray:
        """Return the scores (T, V) of the next token after each of `tokens`."""
        self.reset()
        return self.step(tokens)

    def generate(self, prompt: str, options: GenerateOptions) -> Generation:
        """Return the continuation of `prompt`, ended by EOS, a stop string, the length or the context."""
        started_s = time.perf_counter()
        tokens = self.model.prompt_tokens(prompt)
        text = _TextSoFar(self.model.tokenizer, options.stop, strip_space=not prompt)
        reason: FinishReason = "length"
        first_s = 0.0
        for token in self._tokens(tokens, options):
            first_s = first_s or time.perf_counter() - started_s
            if token == self.model.eos_id and not options.ignore_eos:
                reason = "stop"
                break
            if text.add(token):
                reason = "stop"
                break
        if reason == "length" and len(text.tokens) < options.max_new_tokens:
            reason = "context_full"
        total_s = time.perf_counter() - started_s
        return Generation(text.text, text.tokens, reason, len(tokens), first_s, total_s)

    def _tokens(self, prompt: list[int], options: GenerateOptions) -> Iterator[int]:
        """Yield chosen tokens until the length or the context is used up."""
        sampler = Sampler(options, prompt)
        room = self.model.config.context_length - len(prompt)
        if room < 0:
            raise DataError(f"prompt: {len(prompt)} tokens; the context holds {self.model.config.context_length}")
        self.reset()
        given: Sequence[int] = prompt
        for made in range(min(options.max_new_tokens, room)):
            token = sampler.choose(self.step(given)[-1], len(prompt) + made)
            given = [token]
            yield token


class _TextSoFar:
    """Collects tokens and notices the first stop string."""

    def __init__(self, tokenizer: TextCoder, stop: tuple[str, ...], strip_space: bool) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(text for text in stop if text)
        # A tokenizer that puts a space before every text would show it at the start of an empty prompt's story.
        self._strip_space = strip_space and tokenizer.adds_prefix_space
        self.tokens: list[int] = []
        self._whole = ""

    def add(self, token: int) -> bool:
        """Take one token; return whether a stop string has ended the text."""
        self.tokens.append(token)
        self._whole = self._tokenizer.decode(self.tokens)
        found = [at for at in (self._whole.find(string) for string in self._stop) if at >= 0]
        if found:
            self._whole = self._whole[: min(found)]
        return bool(found)

    @property
    def text(self) -> str:
        """The text so far."""
        return self._whole.removeprefix(" ") if self._strip_space else self._whole
