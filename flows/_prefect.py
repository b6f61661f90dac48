"""The only bridge between TinyLM and Prefect: live-run locks, logging, progress, tasks, the server.

No `from __future__ import annotations` in these modules: Prefect reads the annotations of flows at run time.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Task as PrefectTask
from prefect import runtime, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from flows import ROOT
from tinylm.artifacts import ArtifactRef, Store
from tinylm.bench.config import CellSpec
from tinylm.bench.sweep import Sweep
from tinylm.corpus import NetworkError
from tinylm.errors import TinyLMError
from tinylm.progress import PlainProgress, Task
from tinylm.runs import api, hold_run
from tinylm.up import EXCLUSIVE_TAG

__all__ = [
    "EXCLUSIVE_TAG",
    "UiProgress",
    "as_task",
    "begin_run",
    "flush",
    "open_store",
    "reports_folder",
    "retry_on_network_error",
    "run_cell",
    "tell_of_waiting",
]

_log = logging.getLogger("tinylm.flows")
FLUSH_LIMIT_S = 5.0
_REPORT_EVERY_S = 15.0  # chosen: each report is a line of `--watch`


def begin_run() -> None:
    """Mark this flow run as alive until its process ends, and let the library's log lines through to Prefect."""
    logging.getLogger("tinylm").setLevel(logging.INFO)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
    if runtime.flow_run.id:
        hold_run(Path(PREFECT_HOME.value()).absolute() / "running", str(runtime.flow_run.id))


def _without_traceback(record: logging.LogRecord) -> bool:
    """Let every record pass; an error of ours tells a user what to do, its place in the code adds nothing."""
    if record.exc_info and isinstance(record.exc_info[1], TinyLMError):
        record.exc_info = None
    return True


def flush() -> None:
    """Bring what is still queued, log lines and events, to the server; for a process that is about to stop it."""
    APILogWorker.drain_all(timeout=FLUSH_LIMIT_S)
    EventsWorker.drain_all(timeout=FLUSH_LIMIT_S)


def open_store() -> Store:
    """Return the project's artifact store; TINYLM_ARTIFACTS names another folder."""
    return Store(Path(os.environ.get("TINYLM_ARTIFACTS", ROOT / "artifacts")))


def reports_folder() -> Path:
    """Return where reports are published; TINYLM_REPORTS names another folder."""
    return Path(os.environ.get("TINYLM_REPORTS", ROOT / "reports"))


class _UiTask:
    """Shows one piece of work as a progress bar on the run's page, and now and then as a log line."""

    def __init__(self, inner: Task, artifact: UUID | None, total: float | None) -> None:
        self._inner, self._artifact, self._total = inner, artifact, total
        self._last_s = 0.0

    def update(self, completed: float, **fields: object) -> None:
        """Set the amount done."""
        self._inner.update(completed, **fields)
        now_s = time.monotonic()
        if self._artifact is None or self._total is None or now_s - self._last_s < _REPORT_EVERY_S:
            return
        self._last_s = now_s
        update_progress_artifact(self._artifact, min(100.0, 100.0 * completed / self._total))


class UiProgress:
    """A `ProgressReporter` for tasks: log lines, and a bar where the amount of work is known."""

    def __init__(self) -> None:
        self._plain = PlainProgress(interval_s=15.0)

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        """Yield the running task."""
        artifact = create_progress_artifact(0.0, description=name) if total else None
        with self._plain.task(name, total, unit) as inner:
            yield _UiTask(inner, artifact if isinstance(artifact, UUID) else None, total)
        if isinstance(artifact, UUID):
            update_progress_artifact(artifact, 100.0)


def as_task(stage: Callable[..., ArtifactRef], **options: Any) -> PrefectTask[..., ArtifactRef]:
    """Return the task that makes one call of `stage` on the project's store.

    No result cache: the store knows what is current, by content (a cache key would see only these few lines).
    """

    @task(name=stage.__name__, description=stage.__doc__, cache_policy=NO_CACHE, **options)
    def run(*inputs: Any, **named: Any) -> ArtifactRef:
        return stage(open_store(), *inputs, UiProgress(), **named)

    return run


def run_cell(sweep: Sweep, cell: CellSpec) -> dict[str, Any]:
    """Measure one cell of a sweep as a task of its own, under the cell's name."""
    return _measure.with_options(task_run_name=cell.cell_id)(sweep, cell)


@task(name="cell", cache_policy=NO_CACHE)
def _measure(sweep: Sweep, cell: CellSpec) -> dict[str, Any]:
    """One engine set-up under one load, in a fresh process."""
    return sweep.run(cell)


def tell_of_waiting() -> None:
    """Log that the exclusive task to come waits, if another run's holds the machine: it would look hung."""
    url = PREFECT_API_URL.value()
    if not url:  # Prefect's server is a part of this process: nobody else runs on it
        return
    with contextlib.suppress(TinyLMError):  # where `tinylm up` never ran, there is no such limit
        limit = api(url, f"/v2/concurrency_limits/tag:{EXCLUSIVE_TAG}")
        if limit["active_slots"] >= limit["limit"]:
            _log.info("waits for the machine: another run trains or measures on it")


def retry_on_network_error() -> dict[str, Any]:
    """Return the task options that try again when the network failed, and on no other error."""

    def is_network_error(task: PrefectTask[..., Any], run: TaskRun, state: State[Any]) -> bool:
        del task, run
        return isinstance(state.result(raise_on_failure=False), NetworkError)

    return {"retries": 3, "retry_delay_seconds": [10, 60, 300], "retry_condition_fn": is_network_error}
