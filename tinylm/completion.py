"""What goes into the engine and what comes out of it, one after another.

Must not know the extension: tinylm.engine is the only module that does, and re-exports the public names.
"""

from __future__ import annotations

import itertools
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from tinylm.arguments import expect
from tinylm.config import GenerateOptions, ModelConfig
from tinylm.errors import DataError

if TYPE_CHECKING:  # imported where scores are made: a program that only writes saves 13 MB and 0.1 s
    import numpy as np
    import numpy.typing as npt

__all__ = ["Completion", "EngineInfo", "EngineStats", "FinishReason", "Prompt", "Request", "Score"]

FinishReason = Literal["stop", "length", "context_full", "invalid_input", "cancelled"]
Prompt = str | Sequence[int]
Item = TypeVar("Item")
Out = TypeVar("Out")


class _Ticketed(Protocol):
    @property
    def ticket(self) -> int: ...


Answer = TypeVar("Answer", bound=_Ticketed)


@dataclass(frozen=True)
class Request:
    """One text to make."""

    prompt: Prompt
    options: GenerateOptions = GenerateOptions()
    sample: int = 0
    tag: object = None
    log_probs: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for options of another kind, such as a dictionary."""
        expect("options", self.options, GenerateOptions, "GenerateOptions(...)")


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
    token_times_ns: array[int]
    log_probs: array[float]

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


class _Queue(Generic[Out]):
    """Tickets whose outcomes are not yet taken: they are in the order of joining, or as they come."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._tickets: deque[int] = deque()
        self._ready: dict[int, Out] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self, ticket: int) -> None:
        self._tickets.append(ticket)

    def give(self, ticket: int, outcome: Out) -> None:
        self._ready[ticket] = outcome

    def take(self) -> Iterator[Out]:
        """Yield the outcomes whose turn it is."""
        if self._ordered:
            while self._tickets and self._tickets[0] in self._ready:
                yield self._ready.pop(self._tickets.popleft())
            return
        for ticket in list(self._ready):
            self._tickets.remove(ticket)
            yield self._ready.pop(ticket)


def run_ahead(
    items: Iterator[Item],
    *,
    submit: Callable[[Item], int],
    receive: Callable[[bool], Sequence[Answer]],
    finish: Callable[[Answer, Item], Out],
    refuse: Callable[[Item, DataError], Out] | None,
    ordered: bool,
    ahead: int,
) -> Iterator[Out]:
    """Submit items while at most `ahead` are not yet yielded; yield their outcomes, in order or as they come.

    Args: submit: returns the item's ticket. receive: returns finished answers, waiting for some if told to.
          refuse: makes the outcome of an item whose submission raises DataError; None: the error goes on.
    """
    queue = _Queue[Out](ordered)
    under_way: dict[int, Item] = {}
    refusals = itertools.count(-1, -1)

    def advance(wait: bool) -> Iterator[Out]:
        for answer in receive(wait and bool(under_way)):
            queue.give(answer.ticket, finish(answer, under_way.pop(answer.ticket)))
        yield from queue.take()

    for item in items:
        try:
            ticket = submit(item)
            under_way[ticket] = item
        except DataError as error:
            if refuse is None:
                raise
            ticket = next(refusals)
            queue.give(ticket, refuse(item, error))
        queue.join(ticket)
        yield from advance(False)
        while len(queue) >= ahead:
            yield from advance(True)
    while queue:
        yield from advance(True)


def finished_scores(parts: deque[tuple[int, int]], costs: list[npt.NDArray[np.float32]]) -> Iterator[Score]:
    """Yield the scores of the texts whose windows all have their costs, and forget those."""
    import numpy as np

    while parts and parts[0][1] <= len(costs):
        size, windows = parts.popleft()
        log_probs = np.concatenate(costs[:windows]) if windows else np.zeros(0, np.float32)
        del costs[:windows]
        yield Score(-float(log_probs.sum(dtype=np.float64)), log_probs.size, size, log_probs)


def refusal_of(ticket: int, request: Request, error: DataError) -> Completion:
    """Return the completion of a request that never reaches the engine."""
    now_ns = time.monotonic_ns()
    none, no_times = array("f"), array("q")
    return Completion(
        ticket, request.tag, [], "", "invalid_input", 0, str(error), now_ns, now_ns, 0, now_ns, no_times, none
    )
