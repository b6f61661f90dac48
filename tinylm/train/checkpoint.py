"""Checkpoints that resume exactly: safetensors and JSON, written whole or not at all, newest good one wins."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinylm.errors import FormatError
from tinylm.manifest import fsync, sha256_file
from tinylm.outputs import safetensors_output

__all__ = [
    "Position",
    "latest",
    "random_state",
    "read_json",
    "read_plan",
    "restore_random_state",
    "save",
    "write_json",
]

_log = logging.getLogger(__name__)
_TENSORS, _STATE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands: everything that is not a tensor."""

    step: int
    elapsed_s: float
    seconds: dict[str, float]  # spent by part of a step
    fingerprint: str  # of settings, data and tokenizer: another run's checkpoint is refused


def save(folder: Path, position: Position, tensors: dict[str, Tensor], keep: int) -> Path:
    """Write a checkpoint under `folder`, then remove all but the newest `keep`; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{position.step:09d}"
    building = folder / f".{final.name}.partial"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    with safetensors_output(building / _TENSORS):
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, building / _TENSORS)
    write_json(building / _STATE, asdict(position) | {"sha256": sha256_file(building / _TENSORS)})
    for path in (building / _TENSORS, building):
        fsync(path)
    shutil.rmtree(final, ignore_errors=True)
    building.rename(final)
    fsync(folder)
    for old in _steps(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest(folder: Path, fingerprint: str) -> tuple[Position, dict[str, Tensor]] | None:
    """Return the newest undamaged checkpoint of this very run, None if there is none.

    A damaged one is named in the log and passed over for the one before. Raises: FormatError if a good
    checkpoint belongs to other settings or data.
    """
    for path in _steps(folder):
        try:
            position, tensors = _read(path)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            _log.warning("checkpoint %s is damaged (%s); trying the one before", path.name, error)
            continue
        if position.fingerprint != fingerprint:
            raise FormatError(f"{path}: belongs to a run with other settings or data; remove {folder} to start anew")
        return position, tensors
    return None


def _read(path: Path) -> tuple[Position, dict[str, Tensor]]:
    state = read_json(path / _STATE)
    found, expected = sha256_file(path / _TENSORS), state.pop("sha256")
    if found != expected:
        raise ValueError(f"{_TENSORS} has digest {found[:12]}, expected {str(expected)[:12]}")
    return Position(**state), load_file(path / _TENSORS)


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def read_plan(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the plan stored for this very run, None if there is none yet or its file is damaged."""
    if not path.is_file():
        return None
    try:
        stored = read_json(path)
        if stored["fingerprint"] == fingerprint:
            return dict(stored["plan"])
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("%s is damaged (%s); planning anew", path, error)
        return None
    raise FormatError(f"{path}: belongs to a run with other settings or data; remove {path.parent} to start anew")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object so that the file is whole at every moment."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    fsync(partial)
    partial.replace(path)


def random_state() -> dict[str, Tensor]:
    """Return torch's random state as tensors."""
    state = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["rng.cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(tensors: dict[str, Tensor]) -> None:
    """Put torch's random state back from a checkpoint's tensors."""
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
