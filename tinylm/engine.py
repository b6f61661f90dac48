"""Text from a model file, at the speed of the C++ engine: bulk, streamed, scored.

The only importer of `tinylm._native`. Text is a function of (model file, prompt, options, sample) alone: batch size,
arrival order, threads, replicas and instruction set change the speed and nothing else.
"""

from __future__ import annotations

import codecs
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import psutil

from tinylm.config import GenerateOptions, ModelConfig
from tinylm.errors import DataError, EngineError, FormatError
from tinylm.tokenizer import Tokenizer, load_tokenizer

try:
    from tinylm import _native
except ImportError as error:  # pragma: no cover - only without a build
    raise EngineError(f"the C++ engine is not built ({error}); run: python setup.py build_ext --inplace") from None

__all__ = [
    "Completion",
    "Engine",
    "EngineInfo",
    "EngineStats",
    "GenerateOptions",
    "Request",
    "Score",
    "available_isas",
    "build_info",
    "load_engine",
]

FinishReason = Literal["stop", "length", "context_full", "invalid_input", "cancelled"]
Prompt = str | Sequence[int]
Item = TypeVar("Item")
Out = TypeVar("Out")

_WAIT_S = 0.1  # longest wait in C++ at once, so that Ctrl-C is noticed
_DEFAULT_BATCH = 64  # slots per replica; measured 2026-11, see docs/ENGINE.md
_BYTE_VOCABULARY = 256


@dataclass(frozen=True)
class Request:
    """One text to make."""

    prompt: Prompt
    options: GenerateOptions = GenerateOptions()
    sample: int = 0
    tag: object = None
    log_probs: bool = False


@dataclass(frozen=True)
class Completion:
    """What became of one request. Times are those of `time.monotonic_ns`; 0: never happened."""

    ticket: int
    tag: object
    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    error: str | None
    submitted_ns: int
    started_ns: int
    first_token_ns: int
    finished_ns: int
    token_times_ns: npt.NDArray[np.int64]
    log_probs: npt.NDArray[np.float32]

    @property
    def output_tokens(self) -> int:
        """Tokens made, the end-of-text token not counted."""
        return len(self.token_ids)


@dataclass(frozen=True)
class Score:
    """What one text costs the model: its tokens after BOS, and EOS."""

    nats: float
    tokens: int
    bytes: int
    log_probs: npt.NDArray[np.float32]


@dataclass(frozen=True)
class EngineInfo:
    """Facts of a running engine."""

    isa: str
    precision: str
    replicas: int
    threads_per_replica: int
    max_batch: int
    weights_bytes: int
    kv_bytes: int
    buffer_bytes: int
    context_length: int
    vocab_size: int
    model_digest: str
    config: ModelConfig
    provenance: dict[str, Any]
    prefix_sharing: bool = True  # equal beginnings of prompts are read once and copied between slots


@dataclass(frozen=True)
class EngineStats:
    """Work since the start, summed over replicas; the parts of a step are those of each replica's first thread."""

    steps: int
    rows: int
    new_tokens: int
    busy_ns: int
    gemm_ns: int
    attention_ns: int
    head_ns: int
    sampling_ns: int
    rest_ns: int


def available_isas() -> list[str]:
    """Return the instruction sets that this build has and this machine runs, fastest first."""
    return list(_native.available_isas())


def build_info() -> dict[str, str]:
    """Return compiler, flags and instruction sets of the build."""
    return dict(_native.build_info())


def load_engine(
    path: str | Path,
    *,
    replicas: int | None = None,
    threads_per_replica: int | None = None,
    max_batch: int | None = None,
    isa: str = "auto",
) -> Engine:
    """Return a running engine over the model file at `path`; close it or use it as a context manager.

    Args:    replicas: independent batches over shared weights; default: one per physical core that
                 `threads_per_replica` leaves.
             threads_per_replica: threads that share one batch; default 1. For one stream at a time: 1 replica with all
                 cores.
             max_batch: texts that a replica works on at once.
             isa: instruction set, one of `available_isas()`, or "auto" for the fastest.
    Raises:  DataError if the file cannot be read, FormatError if it is damaged, EngineError for an impossible setup.
    """
    cores = _cores()
    threads = threads_per_replica if threads_per_replica is not None else 1
    count = replicas if replicas is not None else max(1, cores // max(threads, 1))
    with _translated(path):
        model = _native.load_model(os.fspath(path), isa=isa, threads=min(cores, 8))
        native = _native.Engine(
            model,
            replicas=count,
            threads_per_replica=threads,
            max_batch=max_batch if max_batch is not None else _DEFAULT_BATCH,
        )
    return Engine(model, native, count, threads, max_batch if max_batch is not None else _DEFAULT_BATCH)


class Engine:
    """A model at work. Safe to use from several threads; `load_engine` makes one."""

    def __init__(self, model: _native.Model, native: _native.Engine, replicas: int, threads: int, slots: int) -> None:
        self._model, self._native = model, native
        self._has_text = False
        self._tags: dict[int, object] = {}
        self._refused: list[Completion] = []
        self._refusals = itertools.count(-1, -1)  # tickets of requests that never reach the engine
        self._slots = replicas * slots
        self._setup = {"replicas": replicas, "threads_per_replica": threads, "max_batch": slots}

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all work and free the memory; texts under way are lost."""
        self._native.close()

    @cached_property
    def info(self) -> EngineInfo:
        """Facts of this engine."""
        config = ModelConfig.model_validate(json.loads(self._model.config_json))
        return EngineInfo(
            isa=self._model.isa,
            precision=self._model.precision,
            **self._setup,
            weights_bytes=self._model.weights_bytes,
            kv_bytes=self._native.cache_bytes,
            buffer_bytes=self._native.buffer_bytes,
            context_length=config.context_length,
            vocab_size=config.vocab_size,
            model_digest=self._model.digest,
            config=config,
            provenance=json.loads(self._model.provenance_json),
        )

    def stats(self) -> EngineStats:
        """Return counters of the work done so far."""
        with _translated(None):
            return EngineStats(**self._native.stats())

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the model file carries.

        Raises: EngineError if it carries none (random weights); such a model reads text as bytes.
        """
        if self._model.tokenizer_kind == "bytes":
            raise EngineError("this model has no tokenizer: token ids below 256 are bytes, the others have no text")
        return load_tokenizer(self._model.tokenizer).with_specials(self._model.bos_id, self._model.eos_id)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids that `prompt` starts a text with: BOS where the model wants it, then the prompt."""
        if not isinstance(prompt, str):
            ids = list(prompt)
            return ids or self._begin(ids)
        ids = _byte_ids(prompt) if self._model.tokenizer_kind == "bytes" else self.tokenizer.encode(prompt)
        return self._begin(ids) + ids

    def generate(
        self, prompts: Iterable[Prompt | Request], options: GenerateOptions | None = None, *, ordered: bool = True
    ) -> Iterator[Completion]:
        """Yield one completion per prompt, in input order, or as they finish.

        Prompts are pulled lazily, a bounded number ahead. A `Request` brings its own options.
        """
        usual = options or GenerateOptions()
        requests = (item if isinstance(item, Request) else Request(item, usual) for item in prompts)
        return self._pipeline(
            requests,
            self._submit,
            lambda result, request: self._completion(result, request.tag),
            lambda request, error: _refusal(next(self._refusals), request, error),
            ordered,
        )

    def stream(self, prompt: Prompt, options: GenerateOptions | None = None, *, sample: int = 0) -> Iterator[str]:
        """Yield the text piece by piece as it is made; pieces are whole characters.

        Raises: DataError if the prompt cannot be continued.
        """
        with self._channel() as channel:
            tokens = self._tokens(prompt)
            self._submit_tokens(tokens, Request(prompt, options or GenerateOptions(), sample), channel, stream=True)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            sent = 0
            while True:
                for result in self._native.collect(channel=channel, timeout_s=_WAIT_S):
                    if result.error:
                        raise DataError(result.error)
                    piece = result.text if result.partial else result.text[sent:]
                    sent += len(piece)
                    text = decoder.decode(piece, final=not result.partial)
                    if text:
                        yield text
                    if not result.partial:
                        return

    def score(self, texts: Iterable[str]) -> Iterator[Score]:
        """Yield what each text costs, in order; see `Score`. Windows of the context's length, without overlap."""
        return self._scored(texts)

    def score_tokens(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the log-probability of each token after the first, given all before it; float32 (T - 1)."""
        window = self.info.context_length
        pieces = [tokens[at : at + window + 1] for at in range(0, max(0, len(tokens) - 1), window)]
        parts = list(self._pipeline(iter(pieces), self._submit_score, _cost))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits of the next token at every position, float32 (T, V). For tests and inspection.

        Raises: DataError if the tokens do not fit the model.
        """
        with self._channel() as channel:
            self._native.submit(_ids(tokens), task="logits", channel=channel)
            results: list[_native.Result] = []
            while not results:
                results = self._native.collect(channel=channel, timeout_s=_WAIT_S)
            if results[0].error:
                raise DataError(results[0].error)
            return results[0].take_logits().reshape(len(tokens), -1)

    def submit(self, request: Request) -> int:
        """Queue one request and return its ticket at once; `collect` brings the completion."""
        try:
            ticket = self._submit(request, 0)
        except DataError as error:
            refusal = _refusal(next(self._refusals), request, error)
            self._refused.append(refusal)
            return refusal.ticket
        self._tags[ticket] = request.tag
        return ticket

    def collect(self, timeout_s: float = 0.0) -> list[Completion]:
        """Return submitted requests that have finished, in that order; waits for the first at most `timeout_s`."""
        done, self._refused = self._refused, []
        while not done:
            with _translated(None):
                results = self._native.collect(channel=0, timeout_s=min(timeout_s, _WAIT_S))
            done = [self._completion(result, self._tags.pop(result.ticket, None)) for result in results]
            timeout_s -= _WAIT_S
            if timeout_s <= 0:
                break
        return done

    def cancel(self, ticket: int) -> None:
        """End a submitted request within one step; it completes as "cancelled"."""
        with _translated(None):
            self._native.cancel(ticket)

    def _begin(self, ids: Sequence[int]) -> list[int]:
        bos = self._model.bos_id
        return [bos] if bos is not None and (self._model.add_bos or not ids) else []

    def _tokens(self, prompt: Prompt) -> npt.NDArray[np.int64]:
        return _ids(self.encode(prompt))

    def _submit(self, request: Request, channel: int) -> int:
        return self._submit_tokens(self._tokens(request.prompt), request, channel)

    def _submit_tokens(
        self, tokens: npt.NDArray[np.int64], request: Request, channel: int, stream: bool = False
    ) -> int:
        options = request.options
        trim = request.prompt == "" and self._model.tokenizer_kind != "bytes"
        with _translated(None):
            self._give_text()
            return self._native.submit(
                tokens,
                max_new_tokens=options.max_new_tokens,
                temperature=options.temperature,
                top_k=options.top_k,
                top_p=options.top_p,
                min_p=options.min_p,
                repetition_penalty=options.repetition_penalty,
                seed=options.seed,
                sample=request.sample,
                stop=[text.encode(errors="surrogatepass") for text in options.stop if text],
                ignore_eos=options.ignore_eos,
                stream=stream,
                log_probs=request.log_probs,
                trim_space=trim and getattr(self.tokenizer, "adds_prefix_space", False),
                channel=channel,
            )

    def _submit_score(self, tokens: Sequence[int], channel: int) -> int:
        with _translated(None):
            return self._native.submit(_ids(tokens), task="score", channel=channel)

    def _give_text(self) -> None:
        if self._has_text:
            return
        if self._model.tokenizer_kind == "bytes":
            self._native.set_token_bytes([bytes([byte]) for byte in range(_BYTE_VOCABULARY)])
        else:
            self._native.set_token_bytes(self.tokenizer.token_bytes())
        self._has_text = True

    def _scored(self, texts: Iterable[str]) -> Iterator[Score]:
        window, eos = self.info.context_length, self._model.eos_id
        parts: deque[tuple[int, int]] = deque()  # bytes and windows of each text not yet yielded

        def windows() -> Iterator[list[int]]:
            for text in texts:
                ids = [*self.encode(text), *([] if eos is None else [eos])]
                starts = range(0, max(0, len(ids) - 1), window)
                parts.append((len(text.encode()), len(starts)))
                yield from (ids[at : at + window + 1] for at in starts)

        costs: list[npt.NDArray[np.float32]] = []
        for cost in self._pipeline(windows(), self._submit_score, _cost):
            costs.append(cost)
            yield from _finished_scores(parts, costs)
        yield from _finished_scores(parts, costs)

    def _pipeline(
        self,
        items: Iterator[Item],
        submit: Callable[[Item, int], int],
        finish: Callable[[_native.Result, Item], Out],
        refuse: Callable[[Item, DataError], Out] | None = None,
        ordered: bool = True,
    ) -> Iterator[Out]:
        """Submit items a bounded number ahead; yield what `finish` makes of their results, in order or as they come."""
        ahead = 4 * self._slots + 16
        order: deque[int] = deque()  # tickets not yet yielded, in input order
        under_way: dict[int, Item] = {}
        ready: dict[int, Out] = {}
        with self._channel() as channel:
            for item in items:
                try:
                    ticket = submit(item, channel)
                    under_way[ticket] = item
                except DataError as error:
                    if refuse is None:
                        raise
                    ticket = next(self._refusals)
                    ready[ticket] = refuse(item, error)
                order.append(ticket)
                while True:
                    self._receive(channel, under_way, ready, finish, wait=len(order) >= ahead and not ready)
                    yield from _take(order, ready, ordered)
                    if len(order) < ahead:
                        break
            while order:
                self._receive(channel, under_way, ready, finish, wait=True)
                yield from _take(order, ready, ordered)

    def _receive(
        self,
        channel: int,
        under_way: dict[int, Item],
        ready: dict[int, Out],
        finish: Callable[[_native.Result, Item], Out],
        wait: bool,
    ) -> None:
        with _translated(None):
            results = self._native.collect(channel=channel, timeout_s=_WAIT_S if wait and under_way else 0.0)
        for result in results:
            ready[result.ticket] = finish(result, under_way.pop(result.ticket))

    @contextmanager
    def _channel(self) -> Iterator[int]:
        with _translated(None):
            channel = self._native.open_channel()
        try:
            yield channel
        finally:
            with suppress(_native.EngineError):  # closed meanwhile: nothing is left to cancel
                self._native.close_channel(channel)

    def _completion(self, result: _native.Result, tag: object) -> Completion:
        return Completion(
            ticket=result.ticket,
            tag=tag,
            token_ids=result.token_ids,
            text=result.text.decode("utf-8", errors="replace"),
            finish_reason=cast(FinishReason, result.finish_reason),
            prompt_tokens=result.prompt_tokens,
            error=result.error or None,
            submitted_ns=result.submitted_ns,
            started_ns=result.started_ns,
            first_token_ns=result.first_token_ns,
            finished_ns=result.finished_ns,
            token_times_ns=result.take_token_times_ns(),
            log_probs=result.take_log_probs(),
        )


def _take(order: deque[int], ready: dict[int, Out], ordered: bool) -> Iterator[Out]:
    if ordered:
        while order and order[0] in ready:
            yield ready.pop(order.popleft())
        return
    for ticket in list(ready):
        order.remove(ticket)
        yield ready.pop(ticket)


def _cost(result: _native.Result, _: object) -> npt.NDArray[np.float32]:
    if result.error:
        raise DataError(result.error)
    return result.take_log_probs()


def _finished_scores(parts: deque[tuple[int, int]], costs: list[npt.NDArray[np.float32]]) -> Iterator[Score]:
    while parts and parts[0][1] <= len(costs):
        size, windows = parts.popleft()
        log_probs = np.concatenate(costs[:windows]) if windows else np.zeros(0, np.float32)
        del costs[:windows]
        yield Score(-float(log_probs.sum(dtype=np.float64)), log_probs.size, size, log_probs)


def _refusal(ticket: int, request: Request, error: DataError) -> Completion:
    now_ns = time.monotonic_ns()
    none, no_times = np.zeros(0, np.float32), np.zeros(0, np.int64)
    return Completion(
        ticket, request.tag, [], "", "invalid_input", 0, str(error), now_ns, now_ns, 0, now_ns, no_times, none
    )


def _ids(tokens: Sequence[int]) -> npt.NDArray[np.int64]:
    try:
        ids = np.asarray(tokens if len(tokens) else np.zeros(0, np.int64))
        if ids.ndim == 1 and ids.dtype.kind in "iu":
            return ids.astype(np.int64)
    except (OverflowError, ValueError, TypeError):
        pass
    raise DataError("prompt: expected text or a flat list of token ids")


def _byte_ids(text: str) -> list[int]:
    try:
        return list(text.encode())
    except UnicodeEncodeError as error:
        raise DataError(f"text: lone surrogate at character {error.start}; expected valid Unicode") from None


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


@contextmanager
def _translated(path: str | Path | None) -> Iterator[None]:
    """Turn the extension's exceptions into ours, naming the file."""
    try:
        yield
    except _native.FormatError as error:
        raise FormatError(f"model {path}: {error}") from None
    except _native.EngineError as error:
        raise EngineError(f"engine: {error}") from None
    except OSError as error:
        raise DataError(f"model {path}: cannot be read ({error}); expected a TinyLM model file") from None
    except MemoryError:
        raise EngineError("engine: not enough memory; lower max_batch or replicas") from None
