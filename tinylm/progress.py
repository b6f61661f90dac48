"""How long work reports itself: one small protocol, a rich bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["NullProgress", "PlainProgress", "ProgressReporter", "RichProgress", "Task", "terminal_progress"]

_log = logging.getLogger(__name__)


class Task(Protocol):
    """One running piece of work."""

    def update(self, completed: float, **fields: object) -> None:
        """Set the absolute amount done, in the task's unit; `fields` are shown as `name=value`."""


class ProgressReporter(Protocol):
    """Where stages report progress; every stage function takes one."""

    def task(self, name: str, total: float | None, unit: str = "") -> AbstractContextManager[Task]:
        """Return a context manager that yields the running `Task`."""


def _format(fields: dict[str, object]) -> str:
    return " ".join(f"{key}={_number(value)}" for key, value in fields.items())


def _number(value: object) -> str:
    """Return a float with four significant digits, a large one with all before the point; anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class _NullTask:
    def update(self, completed: float, **fields: object) -> None:
        del completed, fields


class NullProgress:
    """Reports nothing: for tests and for callers that show progress themselves."""

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        del name, total, unit
        yield _NullTask()


class _PlainTask:
    def __init__(self, name: str, total: float | None, unit: str, interval_s: float) -> None:
        self._name, self._total, self._unit, self._interval_s = name, total, unit, interval_s
        self._last_s = time.monotonic()
        self._first: tuple[float, float] | None = None  # amount and time of the first update

    def update(self, completed: float, **fields: object) -> None:
        now_s = time.monotonic()
        self._first = self._first or (completed, now_s)
        if now_s - self._last_s < self._interval_s:
            return
        self._last_s = now_s
        done = f"{_number(completed)}/{_number(self._total)}" if self._total else _number(completed)
        words = (self._name, done, self._unit, self._eta(completed, now_s), _format(fields))
        _log.info("%s", " ".join(filter(None, words)))

    def _eta(self, completed: float, now_s: float) -> str:
        """Return the time left at the pace since the first update: what was there before it took no time."""
        first, first_s = self._first or (completed, now_s)
        if not self._total or completed <= first:
            return ""
        return f"eta={(now_s - first_s) * (self._total - completed) / (completed - first):.0f}s"


class PlainProgress:
    """Logs one plain line per task every `interval_s` seconds."""

    def __init__(self, interval_s: float = 10.0) -> None:
        self._interval_s = interval_s

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        started_s = time.monotonic()
        yield _PlainTask(name, total, unit, self._interval_s)
        _log.info("%s done in %.1f s", name, time.monotonic() - started_s)


class _RichTask:
    def __init__(self, bar: Progress, task_id: object) -> None:
        self._bar, self._task_id = bar, task_id

    def update(self, completed: float, **fields: object) -> None:
        self._bar.update(self._task_id, completed=completed, fields_text=_format(fields))  # type: ignore[arg-type]


class RichProgress:
    """Draws a live bar on standard error."""

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        from rich import progress  # 2 MB that an engine without a terminal does not need
        from rich.console import Console
        from rich.table import Column

        whole = Column(no_wrap=True)  # on a narrow terminal the bar gets shorter, never a number
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(table_column=whole),
            progress.TextColumn(unit),
            progress.TimeElapsedColumn(table_column=whole),
            progress.TimeRemainingColumn(table_column=whole),
            progress.TextColumn("{task.fields[fields_text]}"),
        )
        with progress.Progress(*columns, console=Console(stderr=True), transient=False) as bar:
            yield _RichTask(bar, bar.add_task(name, total=total, fields_text=""))


def terminal_progress() -> ProgressReporter:
    """Return a live bar when standard error is a terminal, plain log lines when it is piped."""
    return RichProgress() if sys.stderr.isatty() else PlainProgress()
