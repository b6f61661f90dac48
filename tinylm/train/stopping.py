"""Stop on SIGINT and SIGTERM without losing work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopSignals", "Stopped"]


class Stopped(KeyboardInterrupt):
    """Training was asked to stop and has saved its state; running the same command again goes on."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; the run can be resumed")
        self.signum = signum


class StopSignals:
    """While entered, SIGINT and SIGTERM raise `Stopped`: at once, or inside `held` when that block ends.

    Only the main thread can handle signals; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self._held = False
        self._received = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside this block, then give them back to their former handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let this block end, then raise `Stopped` if a signal came meanwhile."""
        self._held, self._received = True, 0
        try:
            yield
        finally:
            self._held = False
        if self._received:
            raise Stopped(self._received)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if not self._held:
            raise Stopped(signum)
        self._received = signum
