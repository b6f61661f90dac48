"""Two threads beside the main one, joined to it by bounded queues: one brings items, one takes them away."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Inlet", "Outlet"]

ItemT = TypeVar("ItemT")
_POLL_S = 0.1
_JOIN_S = 1.5  # two lanes on a hanging disk or network still let a stopped job end within five seconds


class _Lane(Generic[ItemT]):
    """A thread, its queue, the CPU time it used, and the error that ended it."""

    def __init__(self, name: str, depth: int) -> None:
        self._queue: queue.Queue[ItemT | None] = queue.Queue(depth)  # None: the end
        self._halted = threading.Event()
        self._ended = threading.Event()  # not Thread.join: Ctrl-C inside it leaves the thread marked as ended
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)
        self.cpu_s = 0.0
        self._thread.start()

    def _guarded(self) -> None:
        try:
            self._work()
        except BaseException as error:  # handed to the main thread
            self._error = error
        self.cpu_s = time.thread_time()
        self._ended.set()

    def _work(self) -> None:
        raise AssertionError("a lane is an inlet or an outlet")

    def _put(self, item: ItemT | None) -> None:
        """Put `item`, waiting for room; give up when the lane is halted or its thread has ended badly."""
        while not self._halted.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
                return
            except queue.Full:
                self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None and threading.current_thread() is not self._thread:
            raise self._error

    def halt(self) -> None:
        """End the thread soon, whatever is still queued, and wait a little for it."""
        self._halted.set()
        self._ended.wait(_JOIN_S)


class Inlet(_Lane[ItemT]):
    """Runs an iterable in its own thread and hands its items to the main thread."""

    def __init__(self, name: str, items: Iterable[ItemT], depth: int) -> None:
        self._items = items
        super().__init__(name, depth)

    def _work(self) -> None:
        try:
            for item in self._items:
                self._put(item)
                if self._halted.is_set():
                    return
        finally:
            self._put(None)

    def get(self, wait: bool) -> ItemT | None:
        """Return the next item, or None at the end.

        Raises: queue.Empty when nothing is there yet and `wait` is False; the iterable's own error.
        """
        item = self._queue.get(block=wait)
        if item is None:
            self._ended.wait()
            self._raise_error()
        return item


class Outlet(_Lane[ItemT]):
    """Runs `work` on each item that the main thread puts, in its own thread and in order."""

    def __init__(self, name: str, work: Callable[[ItemT], None], depth: int) -> None:
        self._do = work
        super().__init__(name, depth)

    def _work(self) -> None:
        while not self._halted.is_set():
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if item is None:
                return
            self._do(item)

    def put(self, item: ItemT) -> None:
        """Hand `item` over, waiting for room. Raises: the error that ended the thread."""
        self._raise_error()
        self._put(item)

    def close(self) -> None:
        """Wait until every item is worked off. Raises: the error that ended the thread."""
        self._put(None)
        self._ended.wait()
        self._raise_error()
