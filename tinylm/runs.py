"""Which flow runs are alive. A run holds a lock on a file of its own; the kernel frees it when the process dies.

Prefect leaves a run whose processes were killed in state Running. This module talks to a Prefect server over
plain HTTP and must not import Prefect.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tinylm.errors import StageError

__all__ = [
    "GOES_ON",
    "api",
    "failed_runs",
    "free_slots",
    "hold_run",
    "is_any_alive",
    "is_serving",
    "mark_dead_runs",
]

OPEN_STATES = ("RUNNING", "CANCELLING")
ENDED_STATES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
SETTLED = datetime.timedelta(minutes=1)  # a task reports its own end late, through a queue of events (chosen)
GOES_ON = "the same parameters go on from what the store has"
LOST = f"its process ended without a word; {GOES_ON}"
TIMEOUT_S = 10.0
BUSY_S = 15.0  # how long a server may answer 503: it does while another process writes to its database
PAGE = 200  # the most that the server's filter calls return at once
RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def api(url: str, path: str, body: Any = None, method: str | None = None) -> Any:
    """Return the server's JSON answer to one call, None when it has no content; waits while the server is busy.

    Raises: StageError with the server's words when it refuses or does not answer.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}{path}", data, {"Content-Type": "application/json"}, method=method)
    patience_s = time.monotonic() + BUSY_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                content = answer.read()
            return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")[:300]
            if error.code != 503 or time.monotonic() > patience_s:
                raise StageError(f"Prefect server refused {path}: {error.code} {detail}") from None
            time.sleep(0.25)
        except (OSError, HTTPException) as error:
            raise StageError(f"Prefect server at {url} does not answer: {error}") from None


def is_serving(url: str) -> bool:
    """Return whether a Prefect server answers at `url`, which ends in /api."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1.0) as answer:
            return bool(answer.read().strip() == b"true")
    except (OSError, HTTPException):  # nobody, or a program that speaks something else
        return False


def hold_run(folder: Path, run_id: str) -> int:
    """Mark flow run `run_id` as alive until this process ends; return the descriptor that holds the lock."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(folder / run_id, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(folder / run_id, descriptor):
            return descriptor
        os.close(descriptor)  # `_forget` removed the file before it was ours: this lock nobody would see


def is_any_alive(folder: Path) -> bool:
    """Return whether some run holds its lock."""
    return folder.is_dir() and not all(_is_dead(path, unseen=True) for path in folder.iterdir())


def mark_dead_runs(url: str, folder: Path, *, no_worker: bool, message: str = LOST) -> list[str]:
    """Set the open flow runs whose process is gone to Crashed, with their tasks; return the runs' names.

    The lock files of runs that ended go.

    Args: no_worker: none runs, so that every open run which nobody holds is dead, also one that never began.
              Beside a worker only those count that were held once: a run may be about to take its lock.
          message: why they ended.
    """
    states = (*OPEN_STATES, "PENDING") if no_worker else OPEN_STATES
    found = api(url, "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": states}}}, "limit": PAGE})
    dead = [run for run in found if _is_dead(folder / run["id"], unseen=no_worker)]
    for run in dead:
        _crash(url, "flow_runs", run["id"], message)
        _crash_tasks(url, {"id": {"any_": [run["id"]]}}, message)
    # The worker itself marks a run whose process it lost, but none of that run's tasks.
    settled = {"before_": (datetime.datetime.now(datetime.UTC) - SETTLED).isoformat()}
    _crash_tasks(url, {"state": {"type": {"any_": ENDED_STATES}}, "end_time": settled}, message)
    _forget_ended(url, folder)
    return [str(run["name"]) for run in dead]


def failed_runs(url: str, since: datetime.datetime) -> dict[str, str]:
    """Return the flow runs that failed or crashed after `since`, each by its ID as one line: its name and why."""
    chosen = {
        "state": {"type": {"any_": ["FAILED", "CRASHED"]}},
        "end_time": {"after_": since.isoformat()},
        "parent_task_run_id": {"is_null_": True},  # a part of another run fails with that one
    }
    found = api(url, "/flow_runs/filter", {"flow_runs": chosen, "sort": "END_TIME_DESC", "limit": PAGE})
    return {run["id"]: f"run {run['name']} {_how_it_ended(run['state'])}" for run in reversed(found)}


def free_slots(url: str, tag: str) -> None:
    """Set all slots of the limit on `tag` free: what a former server counted as taken, nobody gives back.

    Slots are counted in the database but leased in the server's memory, and Prefect's own reset (3.8) ends the leases
    alone: each task that then asks waits for ever.
    """
    api(url, f"/v2/concurrency_limits/tag:{tag}", {"active_slots": 0}, method="PATCH")


def _how_it_ended(state: dict[str, Any]) -> str:
    reason = str(state["message"]).removeprefix("Flow run encountered an exception: ").rstrip(".")
    hint = f"; {GOES_ON}" if state["type"] == "CRASHED" and GOES_ON not in reason else ""
    return f"{state['type'].lower()}: {reason}{hint}"


def _crash_tasks(url: str, flow_runs: dict[str, Any], message: str) -> None:
    """Set what is open of the chosen runs' tasks to Crashed; their progress bars say so too."""
    chosen = {"flow_runs": flow_runs, "task_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}}
    tasks = [task["id"] for task in api(url, "/task_runs/filter", chosen | {"limit": PAGE})]
    for task in tasks:
        _crash(url, "task_runs", task, message)
    bars = {"artifacts": {"task_run_id": {"any_": tasks}, "type": {"any_": ["progress"]}}, "limit": PAGE}
    for bar in api(url, "/artifacts/filter", bars) if tasks else ():
        if bar["data"] < 100:
            words = {"description": f"{bar['description']}: stopped", "data": bar["data"]}
            api(url, f"/artifacts/{bar['id']}", words, method="PATCH")


def _crash(url: str, kind: str, run_id: str, message: str) -> None:
    state = {"type": "CRASHED", "name": "Crashed", "message": message}
    api(url, f"/{kind}/{run_id}/set_state", {"state": state, "force": True})


def _forget_ended(url: str, folder: Path) -> None:
    """Remove the lock files that nobody holds, but for those of runs that the server says go on."""
    left = [path for path in folder.glob("*") if RUN_ID.fullmatch(path.name) and _is_dead(path, unseen=False)][:PAGE]
    if not left:
        return
    chosen = {"id": {"any_": [path.name for path in left]}, "state": {"type": {"not_any_": ENDED_STATES}}}
    going_on = {run["id"] for run in api(url, "/flow_runs/filter", {"flow_runs": chosen, "limit": PAGE})}
    for path in left:
        if path.name not in going_on:
            _forget(path)


def _forget(path: Path) -> None:
    """Remove a lock file, unless it has a holder; one that is just taking the lock sees that, and makes it anew."""
    with suppress(FileNotFoundError), _tried(path) as descriptor:
        if descriptor is not None and _is_at(path, descriptor):  # else it is another's by now
            path.unlink()


def _is_dead(path: Path, *, unseen: bool) -> bool:
    """Return whether nobody holds `path`; `unseen` is the answer for a run that never made the file."""
    try:
        with _tried(path) as descriptor:
            return descriptor is not None
    except FileNotFoundError:
        return unseen


@contextmanager
def _tried(path: Path) -> Iterator[int | None]:
    """Hold the lock of the file `path` for the block, which gets its descriptor; None where another holds it."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor if _lock(descriptor) else None
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether the open file is still the one called `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
