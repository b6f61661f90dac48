"""What a stopped comparison left, and whether a new start may go on with it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import tinylm
from tinylm.bench.limits import MachineLimits
from tinylm.bench.machine import machine_key
from tinylm.bench.peers.workloads import WORKLOADS, Workload
from tinylm.bench.store import Run, read_run
from tinylm.config import Config
from tinylm.errors import DataError, StageError

__all__ = ["identity", "kept_run", "one_at_a_time", "stopped_run"]

_PACKAGE = Path(tinylm.__file__).parent


def identity(
    peers_env: Path, presets: Sequence[str], rounds: int, seed: int, workloads: Sequence[Workload] = WORKLOADS
) -> dict[str, Any]:
    """Return the facts that all rounds of a comparison share: settings, machine, this program, the peers' packages."""
    program = hashlib.sha256()
    for path in sorted([*_PACKAGE.rglob("*.py"), *_PACKAGE.glob("_native*.so")]):
        program.update(path.relative_to(_PACKAGE).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return {
        "settings": {
            "presets": list(presets),
            "workloads": [workload.name for workload in workloads],
            "rounds": rounds,
            "seed": seed,
        },
        "machine_key": machine_key(),
        "version": tinylm.__version__,
        "program_digest": program.hexdigest(),
        "peers": sorted(path.stem for path in peers_env.glob("lib/python*/site-packages/*.dist-info")),
    }


class _Kept(Config):
    """What going on, and the page, need of run.json besides the identity."""

    run_id: str
    created_at: str
    question: str
    machine: dict[str, Any]
    rounds_done: int
    limits: MachineLimits | None


def _read(folder: Path) -> Run:
    """Return the rounds in `folder`; raise DataError if they are damaged, or none of a comparison."""
    run = read_run(folder)
    try:
        _Kept.model_validate({name: run.facts.get(name) for name in _Kept.model_fields})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise DataError(f"{folder / 'run.json'}: {field}: {problem['msg']}; remove the folder") from None
    return run


def stopped_run(reports: Path, wanted: dict[str, Any]) -> Run | None:
    """Return the last comparison under `reports` of this identity, if it has rounds to come."""
    for folder in sorted(reports.glob("*-peers"), reverse=True):
        try:
            run = _read(folder)
        except DataError:  # stopped before a round was whole, damaged, or none of ours
            continue
        if all(run.facts.get(name) == value for name, value in wanted.items()):
            return run if run.facts["rounds_done"] < wanted["settings"]["rounds"] else None
    return None


def kept_run(folder: Path, wanted: dict[str, Any]) -> Run | None:
    """Return the rounds that `folder` holds; None where it holds none.

    Raises: StageError if they are of another comparison; DataError if they are damaged.
    """
    if not (folder / "run.json").exists():
        return None
    run = _read(folder)
    for name, value in wanted.items():
        if run.facts.get(name) != value:
            raise StageError(f"{folder}: holds a comparison with other {name.replace('_', ' ')}; remove it first")
    return run


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold `folder`, of converted models, for this process: two comparisons at once would spoil each other's figures.

    The system lets go of it when the process ends, however it does. Raises: StageError if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageError(f"{folder}: another comparison is running with these models; wait for its end") from None
        yield
    finally:
        os.close(descriptor)
