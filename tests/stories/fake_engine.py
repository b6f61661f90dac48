"""An engine without a model: answers are words drawn from a hash of what the real engine's text depends on."""

from __future__ import annotations

import hashlib
import threading
import time
from array import array
from collections import deque
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from tinylm.engine import Completion, Request

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sun",
    "ran",
    "sat",
    "saw",
    "red",
    "big",
    "and",
    "then",
    "was",
    "happy",
    "said",
    "bed",
)


@dataclass(frozen=True)
class FakeInfo:
    replicas: int = 2
    max_batch: int = 4
    context_length: int = 64
    model_digest: str = "fake-model"
    provenance: dict[str, Any] = field(default_factory=dict)


class FakeTokenizer:
    def token_bytes(self) -> list[bytes]:
        return [b"x" * 16]


@dataclass
class FakeEngine:
    """`delay_s` per answer; `shuffle`: give answers out of order, as a real batch does."""

    delay_s: float = 0.0
    shuffle: bool = True
    info: FakeInfo = field(default_factory=FakeInfo)
    tokenizer: FakeTokenizer = field(default_factory=FakeTokenizer)

    def __post_init__(self) -> None:
        self._cancelled: set[int] = set()
        self._waiting: deque[tuple[int, Request, int]] = deque()
        self._lock = threading.Lock()
        self._next = 0
        self.submitted = 0
        self.most_in_flight = 0

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def submit(self, request: Request) -> int:
        with self._lock:
            self._next += 1
            self.submitted += 1
            self._waiting.append((self._next, request, time.monotonic_ns()))
            self.most_in_flight = max(self.most_in_flight, len(self._waiting))
            return self._next

    def cancel(self, ticket: int) -> None:
        with self._lock:
            self._cancelled.add(ticket)

    def collect(self, timeout_s: float) -> list[Completion]:
        with self._lock:
            slots = self.info.replicas * self.info.max_batch
            batch = [self._waiting.popleft() for _ in range(min(slots, len(self._waiting)))]
        if not batch:
            time.sleep(min(timeout_s, 0.001))
        if self.delay_s:
            time.sleep(self.delay_s * len(batch))
        if self.shuffle:
            batch.reverse()
        return [
            replace(_completion(*item), text="", finish_reason="cancelled")
            if item[0] in self._cancelled
            else _completion(*item)
            for item in batch
        ]


def _completion(ticket: int, request: Request, submitted_ns: int) -> Completion:
    options = request.options
    key = f"{request.prompt}|{options.model_dump_json()}|{request.sample}".encode()
    bits = hashlib.sha256(key).digest()
    n_words = min(options.max_new_tokens, 4 + bits[0] % 8)
    text = "".join(f" {WORDS[bit % len(WORDS)]}" for bit in bits[1 : 1 + n_words]) + ("." if n_words else "")
    now_ns = time.monotonic_ns()
    return Completion(
        ticket=ticket,
        tag=request.tag,
        token_ids=[0] * n_words,
        text=text,
        finish_reason="stop",
        prompt_tokens=len(str(request.prompt).split()),
        error=None,
        submitted_ns=submitted_ns,
        started_ns=submitted_ns,
        first_token_ns=now_ns,
        finished_ns=now_ns,
        token_times_ns=array("q"),
        log_probs=array("f"),
    )
