"""What a stopped comparison left, and whether a new start may go on with it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tinylm
from tinylm.bench.machine import machine_key
from tinylm.bench.store import Run, read_run
from tinylm.errors import DataError, StageError

__all__ = ["identity", "only_writer", "rounds_done", "stopped_run"]

_PACKAGE = Path(tinylm.__file__).parent


def identity(peers_env: Path, presets: Sequence[str], rounds: int, seed: int) -> dict[str, Any]:
    """Return the facts that all rounds of a comparison share: settings, machine, this program, the peers' packages."""
    program = hashlib.sha256()
    for path in sorted([*_PACKAGE.rglob("*.py"), *_PACKAGE.glob("_native*.so")]):
        program.update(path.relative_to(_PACKAGE).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return {
        "settings": {"presets": list(presets), "rounds": rounds, "seed": seed},
        "machine_key": machine_key(),
        "version": tinylm.__version__,
        "program_digest": program.hexdigest(),
        "peers": sorted(path.stem for path in peers_env.glob("lib/python*/site-packages/*.dist-info")),
    }


def rounds_done(run: Run) -> int:
    """Return how many rounds a comparison holds."""
    return 1 + max(int(cell["repeat"]) for cell in run.cells)


def stopped_run(reports: Path, wanted: dict[str, Any]) -> Run | None:
    """Return the last comparison under `reports` of this identity, if it has rounds to come."""
    for folder in sorted(reports.glob("*-peers"), reverse=True):
        try:
            run = read_run(folder)
        except DataError:  # stopped before a round was whole, or none of ours
            continue
        if all(run.facts.get(name) == value for name, value in wanted.items()):
            return run if rounds_done(run) < wanted["settings"]["rounds"] else None
    return None


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the system lets go of it when the process ends, however it does.

    Raises: StageError if another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageError(f"{folder}: another process is still writing it; wait for it, or begin anew") from None
        yield
    finally:
        os.close(descriptor)
