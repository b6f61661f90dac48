"""Text from a model file, at the speed of the C++ engine: bulk, streamed, scored.

Text is a function of (model file, prompt, options, sample) alone: batch size,
arrival order, threads, replicas and instruction set change the speed and nothing else.
"""

from __future__ import annotations

import codecs
import itertools
import json
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from tinylm import arguments
from tinylm.arguments import token_array
from tinylm.completion import (
    Completion,
    EngineInfo,
    EngineStats,
    FinishReason,
    Prompt,
    Request,
    Score,
    finished_scores,
    refusal_of,
    run_ahead,
)
from tinylm.config import GenerateOptions, ModelConfig
from tinylm.errors import DataError, EngineError, FormatError
from tinylm.machine import allowed_cpus, available_isas, physical_cores
from tinylm.machine import native as _native
from tinylm.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Completion",
    "Engine",
    "EngineInfo",
    "EngineStats",
    "GenerateOptions",
    "Request",
    "Score",
    "load_engine",
]

Item = TypeVar("Item")
Out = TypeVar("Out")

_WAIT_S = 0.1  # longest wait in C++ at once, so that Ctrl-C is noticed
# A step reads all weights once and each text's keys and values: more texts share the weights, fewer stay in cache.
# Weights of 8 MB stay there themselves; of what is beyond, one text for 1.25 MB was about the quickest (ENGINE.md).
_CACHED_WEIGHTS_BYTES, _WEIGHTS_PER_SLOT_BYTES = 8_000_000, 1_250_000
_FEWEST_SLOTS, _MOST_SLOTS = 6, 32  # of each thread
_MOST_SLOTS_OF_A_REPLICA = 1024  # a bound on address space, whatever the number of threads (chosen)
_BYTES = [bytes([byte]) for byte in range(256)]  # the tokens of a model without a tokenizer
_LOAD_THREADS = 8  # packing is bound by memory, which fewer threads than this keep busy (chosen)


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
             max_batch: texts that a replica works on at once; default: 6 to 32 for each of its threads, more for larger
                 models.
             isa: instruction set, one of `available_isas()`, or "auto" for the fastest.
    Raises:  DataError if the file cannot be read, FormatError if it is damaged, EngineError for an impossible setup.
    """
    replicas = arguments.setup_number("replicas", replicas)
    threads = arguments.setup_number("threads_per_replica", threads_per_replica)
    max_batch = arguments.setup_number("max_batch", max_batch)
    name, isa = arguments.file_name(path), arguments.isa_name(isa, available_isas())
    threads = 1 if threads is None else threads
    count = replicas if replicas is not None else max(1, physical_cores() // max(threads, 1))
    with _translated(path):
        model = _native.load_model(name, isa=isa, threads=min(allowed_cpus(), _LOAD_THREADS))
        slots = max_batch if max_batch is not None else _default_slots(model.weights_bytes, threads)
        native = _native.Engine(model, replicas=count, threads_per_replica=threads, max_batch=slots)
    return Engine(model, native, count, threads, slots)


def _default_slots(weights_bytes: int, threads: int) -> int:
    wanted = (weights_bytes - _CACHED_WEIGHTS_BYTES) // _WEIGHTS_PER_SLOT_BYTES // 4 * 4  # in fours (chosen)
    of_a_thread = min(max(wanted, _FEWEST_SLOTS), _MOST_SLOTS)
    return min(of_a_thread * max(threads, 1), _MOST_SLOTS_OF_A_REPLICA)


class Engine:
    """A model at work. Safe to use from several threads; `load_engine` makes one."""

    def __init__(self, model: _native.Model, native: _native.Engine, replicas: int, threads: int, slots: int) -> None:
        self._model, self._native = model, native
        self._is_bytes = model.tokenizer_kind == "bytes"
        self._has_text = False
        self._lock = threading.Lock()  # of the next two
        self._tags: dict[int, object] = {}
        self._refused: list[Completion] = []
        self._refusals = itertools.count(-1, -1)  # tickets of requests that never reach the engine
        self._slots = replicas * slots
        self._setup = (replicas, threads, slots)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all work and free the memory; texts under way are lost."""
        self._native.close()

    @cached_property
    def info(self) -> EngineInfo:
        """Facts of this engine."""
        config = ModelConfig.model_validate(json.loads(self._model.config_json))
        with _translated(None):
            return EngineInfo(
                isa=self._model.isa,
                precision=self._model.precision,
                replicas=self._setup[0],
                threads_per_replica=self._setup[1],
                max_batch=self._setup[2],
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
        if self._is_bytes:
            raise EngineError("this model has no tokenizer: token ids below 256 are bytes, the others have no text")
        return load_tokenizer(self._model.tokenizer).with_specials(self._model.bos_id, self._model.eos_id)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the token ids that `prompt` starts a text with: BOS where the model wants it, then the prompt."""
        if not isinstance(prompt, str):
            return arguments.id_list(prompt) or self._begin([])
        ids = list(arguments.text_bytes(prompt)) if self._is_bytes else self.tokenizer.encode(prompt)
        return self._begin(ids) + ids

    def generate(
        self, prompts: Iterable[Prompt | Request], options: GenerateOptions | None = None, *, ordered: bool = True
    ) -> Iterator[Completion]:
        """Yield one completion per prompt, in input order, or as they finish.

        Prompts are pulled lazily, a bounded number ahead. A `Request` brings its own options.
        """
        usual = GenerateOptions() if options is None else options
        items = arguments.each("prompts", prompts)
        requests = (item if isinstance(item, Request) else Request(item, usual) for item in items)
        return self._pipeline(
            requests,
            self._submit,
            lambda result, request: self._completion(result, request.tag),
            lambda request, error: refusal_of(next(self._refusals), request, error),
            ordered,
        )

    def stream(self, prompt: Prompt, options: GenerateOptions | None = None, *, sample: int = 0) -> Iterator[str]:
        """Yield the text piece by piece as it is made; pieces are whole characters.

        Raises: DataError if the prompt cannot be continued.
        """
        request = Request(prompt, GenerateOptions() if options is None else options, sample)
        with self._channel() as channel:
            self._submit_tokens(self._tokens(prompt), request, channel, stream=True)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            sent = 0
            while True:
                for result in self._results(channel, _WAIT_S):
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
        window, eos = self.info.context_length, self._model.eos_id
        parts: deque[tuple[int, int]] = deque()  # bytes and windows of each text not yet yielded

        def windows() -> Iterator[list[int]]:
            for text in arguments.each("texts", texts):
                size = len(arguments.text_bytes(text))
                ids = [*self.encode(text), *([] if eos is None else [eos])]
                starts = range(0, max(0, len(ids) - 1), window)
                parts.append((size, len(starts)))
                yield from (ids[at : at + window + 1] for at in starts)

        costs: list[npt.NDArray[np.float32]] = []
        for cost in self._pipeline(windows(), self._submit_ids, _cost):
            costs.append(cost)
            yield from finished_scores(parts, costs)
        yield from finished_scores(parts, costs)

    def score_tokens(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the log-probability of each token after the first, given all before it; float32 (T - 1)."""
        import numpy as np

        tokens, window = token_array(tokens), self.info.context_length
        pieces = [tokens[at : at + window + 1] for at in range(0, max(0, len(tokens) - 1), window)]
        parts = list(self._pipeline(iter(pieces), self._submit_ids, _cost))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits of the next token at every position, float32 (T, V). For tests and inspection.

        Raises: DataError if the tokens do not fit the model.
        """
        tokens, submit = token_array(tokens), partial(self._submit_ids, task="logits")
        (result,) = self._pipeline(iter([tokens]), submit, lambda result, _: result)
        if result.error:
            raise DataError(result.error)
        return result.take_logits().reshape(len(tokens), -1)

    def submit(self, request: Request) -> int:
        """Queue one request and return its ticket at once; `collect` brings the completion."""
        arguments.expect("request", request, Request, "Request(prompt)")
        try:
            tokens = self._tokens(request.prompt)
            with self._lock:  # held until the tag is stored: another thread may collect the text before
                ticket = self._submit_tokens(tokens, request, 0)
                self._tags[ticket] = request.tag
        except DataError as error:
            refusal = refusal_of(next(self._refusals), request, error)
            with self._lock:
                self._refused.append(refusal)
            return refusal.ticket
        return ticket

    def collect(self, timeout_s: float = 0.0) -> list[Completion]:
        """Return submitted requests that have finished, in that order; waits for the first at most `timeout_s`."""
        timeout_s = arguments.seconds("timeout_s", timeout_s)
        done = self._taken([])
        while not done:
            done = self._taken(self._results(0, min(timeout_s, _WAIT_S)))
            timeout_s -= _WAIT_S
            if timeout_s <= 0:
                break
        return done

    def cancel(self, ticket: int) -> None:
        """End a submitted request within one step; it completes as "cancelled"."""
        with _translated(None):
            self._native.cancel(arguments.ticket_number(ticket))

    def _taken(self, results: list[_native.Result]) -> list[Completion]:
        with self._lock:
            refused, self._refused = self._refused, []
            tags = [self._tags.pop(result.ticket, None) for result in results]
        return refused + list(map(self._completion, results, tags))

    def _begin(self, ids: Sequence[int]) -> list[int]:
        bos = self._model.bos_id
        return [bos] if bos is not None and (self._model.add_bos or not ids) else []

    def _tokens(self, prompt: Prompt) -> array[int]:
        return token_array(self.encode(prompt))

    def _submit(self, request: Request, channel: int) -> int:
        return self._submit_tokens(self._tokens(request.prompt), request, channel)

    def _submit_tokens(self, tokens: array[int], request: Request, channel: int, stream: bool = False) -> int:
        options, sample = request.options, arguments.sample_index(request.sample)
        trim = isinstance(request.prompt, str) and not request.prompt and not self._is_bytes
        with _translated(None):
            self._give_text()
            return self._native.submit(
                tokens,
                **options.model_dump(exclude={"stop"}),
                sample=sample,
                stop=[text.encode(errors="surrogatepass") for text in options.stop if text],
                stream=stream,
                log_probs=bool(request.log_probs),
                trim_space=trim and getattr(self.tokenizer, "adds_prefix_space", False),
                channel=channel,
            )

    def _submit_ids(self, tokens: Sequence[int], channel: int, task: str = "score") -> int:
        with _translated(None):
            return self._native.submit(token_array(tokens), task=task, channel=channel)

    def _give_text(self) -> None:
        if not self._has_text:
            self._native.set_token_bytes(_BYTES if self._is_bytes else self.tokenizer.token_bytes())
            self._has_text = True

    def _pipeline(
        self,
        items: Iterator[Item],
        submit: Callable[[Item, int], int],
        finish: Callable[[_native.Result, Item], Out],
        refuse: Callable[[Item, DataError], Out] | None = None,
        ordered: bool = True,
    ) -> Iterator[Out]:
        with self._channel() as channel:
            yield from run_ahead(
                items,
                submit=lambda item: submit(item, channel),
                receive=lambda wait: self._results(channel, _WAIT_S if wait else 0.0),
                finish=finish,
                refuse=refuse,
                ordered=ordered,
                ahead=4 * self._slots + 16,
            )

    def _results(self, channel: int, timeout_s: float) -> list[_native.Result]:
        with _translated(None):
            return self._native.collect(channel=channel, timeout_s=timeout_s)

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
            token_times_ns=array("q", result.token_times_ns),
            log_probs=array("f", result.log_probs),
        )


def _cost(result: _native.Result, _: object) -> npt.NDArray[np.float32]:
    import numpy as np

    if result.error:
        raise DataError(result.error)
    return np.frombuffer(result.log_probs, np.float32)


@contextmanager
def _translated(path: str | Path | None) -> Iterator[None]:
    """Turn the extension's exceptions into ours, naming the file."""
    try:
        yield
    except _native.FormatError as error:
        raise FormatError(f"model {path}: {error}") from None
    except _native.EngineError as error:
        raise EngineError(f"engine: {error}") from None
    except OverflowError as error:
        raise DataError(f"prompt: {error}") from None
    except OSError as error:
        raise DataError(f"model {path}: cannot be read ({error}); expected a TinyLM model file") from None
    except MemoryError:
        raise EngineError("engine: not enough memory; lower max_batch or replicas") from None
