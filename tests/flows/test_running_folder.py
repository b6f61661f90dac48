"""The lock files of runs: those of ended runs go, and never does a holder's, whoever comes at the same moment."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tinylm import runs

IDS = [f"00000000-0000-4000-8000-{number:012}" for number in range(5)]
ENDED, OPEN, HELD, UNKNOWN, PAUSED = IDS


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths asked of a server that knows an open run, a paused one, and none to be crashed."""
    asked: list[str] = []

    def api(url: str, path: str, body: Any = None, method: str | None = None) -> Any:
        del url, method
        asked.append(path)
        wanted = body.get("flow_runs", {}).get("id", {}).get("any_")
        return [{"id": each, "name": each} for each in (OPEN, PAUSED) if wanted and each in wanted]

    monkeypatch.setattr(runs, "api", api)
    return asked


def test_lock_files_of_ended_runs_go(answers: list[str], tmp_path: Path) -> None:
    for each in (ENDED, OPEN, UNKNOWN, PAUSED):
        os.close(runs.hold_run(tmp_path, each))
    held = runs.hold_run(tmp_path, HELD)
    (tmp_path / "notes.txt").touch()
    runs.mark_dead_runs("url", tmp_path, no_worker=False)
    assert {path.name for path in tmp_path.iterdir()} == {OPEN, HELD, PAUSED, "notes.txt"}
    os.close(held)
    runs.mark_dead_runs("url", tmp_path / "absent", no_worker=False)
    assert answers


def test_a_lock_on_a_file_that_is_gone_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is removed between its opening and its locking, as often as can be."""
    removals = 3
    lock = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        nonlocal removals
        if removals:
            removals -= 1
            (tmp_path / ENDED).unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = runs.hold_run(tmp_path, ENDED)
    assert os.path.samestat(os.fstat(held), (tmp_path / ENDED).stat())
    os.close(held)


def test_a_new_holder_of_a_file_made_anew_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the opening and the locking another remover comes, and after it a holder."""
    path, lock = tmp_path / ENDED, fcntl.flock
    os.close(runs.hold_run(tmp_path, ENDED))
    held: list[int] = []

    def flock(descriptor: int, how: int) -> None:
        if not held:
            held.append(-1)
            path.unlink()
            held[0] = runs.hold_run(tmp_path, ENDED)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    runs._forget(path)
    assert os.path.samestat(os.fstat(held[0]), path.stat())
    os.close(held[0])


def take_turns(folder: Path, until_s: float, clashes: Any) -> None:
    """Hold the lock again and again, with a mark that two holders at once would make twice."""
    while time.monotonic() < until_s:
        held = runs.hold_run(folder, ENDED)
        try:
            (folder / "mark").mkdir()
            (folder / "mark").rmdir()
        except OSError:
            clashes.set()
        os.close(held)


def test_no_two_processes_hold_a_run_while_others_clean(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    clashes, until_s = context.Event(), time.monotonic() + 2
    holders = [context.Process(target=take_turns, args=(tmp_path, until_s, clashes)) for _ in range(3)]
    for holder in holders:
        holder.start()
    while time.monotonic() < until_s:
        runs._forget(tmp_path / ENDED)
    for holder in holders:
        holder.join()
    assert not clashes.is_set()
