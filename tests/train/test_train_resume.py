"""A run that is killed and started again ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tinylm.config import ModelConfig
from tinylm.errors import FormatError
from tinylm.progress import NullProgress
from tinylm.train import Stopped, TrainConfig, train
from tinylm.train.checkpoint import latest

Make = Callable[..., TrainConfig]


class _Interrupting(NullProgress):
    """Sends this process a signal when the training task reaches a step."""

    def __init__(self, step: int, signum: int) -> None:
        self._step, self._signum = step, signum

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[_Interrupting]:
        del name, total, unit
        yield self

    def update(self, completed: float, **fields: object) -> None:
        del completed
        if str(fields.get("step")).startswith(f"{self._step}/"):
            os.kill(os.getpid(), self._signum)


def _run(config: TrainConfig, tokens: Path, out: Path) -> dict[str, torch.Tensor]:
    train(config, tokens, tokens / "tokenizer.model", out, NullProgress())
    return load_file(out / "model.safetensors")


def _interrupt(config: TrainConfig, tokens: Path, out: Path, step: int, signum: int = signal.SIGTERM) -> None:
    with pytest.raises(Stopped, match="can be resumed") as stopped:
        train(config, tokens, tokens / "tokenizer.model", out, _Interrupting(step, signum))
    assert stopped.value.signum == signum


def _assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.fixture(scope="module")
def straight(tokens_dir: Path, tmp_path_factory: pytest.TempPathFactory, tiny_run: Make) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing disturbed."""
    return _run(tiny_run(), tokens_dir, tmp_path_factory.mktemp("straight"))


@pytest.mark.parametrize(("step", "signum"), [(1, signal.SIGTERM), (12, signal.SIGINT), (23, signal.SIGTERM)])
def test_a_stopped_run_goes_on_to_the_same_bits(
    step: int, signum: int, straight: dict[str, torch.Tensor], tokens_dir: Path, tmp_path: Path, tiny_run: Make
) -> None:
    _interrupt(tiny_run(), tokens_dir, tmp_path, step, signum)
    assert not (tmp_path / "model.safetensors").exists()
    _assert_same(_run(tiny_run(), tokens_dir, tmp_path), straight)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 25))


def test_tables_go_on_to_the_same_bits(
    tokens_dir: Path, tmp_path: Path, tiny_run: Make, with_tables: ModelConfig
) -> None:
    config = tiny_run(model=with_tables, ngram_dropout=0.3)
    straight = _run(config, tokens_dir, tmp_path / "straight")
    assert all(weight.abs().max() > 0 for weight in straight.values())
    _interrupt(config, tokens_dir, tmp_path / "stopped", 12)
    _assert_same(_run(config, tokens_dir, tmp_path / "stopped"), straight)


def test_two_stops_in_one_run_change_nothing(
    straight: dict[str, torch.Tensor], tokens_dir: Path, tmp_path: Path, tiny_run: Make
) -> None:
    _interrupt(tiny_run(), tokens_dir, tmp_path, 7)
    _interrupt(tiny_run(), tokens_dir, tmp_path, 15)
    _assert_same(_run(tiny_run(), tokens_dir, tmp_path), straight)


@pytest.mark.parametrize("damage", ["cut", "flipped", "no state", "pickle"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: str, straight: dict[str, torch.Tensor], tokens_dir: Path, tmp_path: Path, tiny_run: Make
) -> None:
    _interrupt(tiny_run(), tokens_dir, tmp_path, 7)
    _interrupt(tiny_run(), tokens_dir, tmp_path, 15)
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    assert newest.name == "step-000000015"
    tensors = newest / "state.safetensors"
    if damage == "no state":
        (newest / "state.json").unlink()
    elif damage == "pickle":
        tensors.write_bytes(pickle.dumps(_Bomb(tmp_path / "exploded")))
    else:
        content = bytearray(tensors.read_bytes())
        content[-20] ^= 1
        tensors.write_bytes(content[:-9] if damage == "cut" else content)
    found = latest(tmp_path / "checkpoints", _fingerprint(newest.parent / "step-000000007"))
    assert found is not None
    assert found[0].step == 7
    _assert_same(_run(tiny_run(), tokens_dir, tmp_path), straight)
    assert not (tmp_path / "exploded").exists()


def test_checkpoints_rotate_and_leave_no_partial_ones(tokens_dir: Path, tmp_path: Path, tiny_run: Make) -> None:
    _run(tiny_run(checkpoint_every_s=0.001), tokens_dir, tmp_path)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "plan.json",
        "step-000000023",
        "step-000000024",
    ]


def test_another_runs_checkpoint_is_refused(tokens_dir: Path, tmp_path: Path, tiny_run: Make) -> None:
    _interrupt(tiny_run(), tokens_dir, tmp_path, 3)
    with pytest.raises(FormatError, match=r"other settings or data; remove .*checkpoints to start anew"):
        _run(tiny_run(seed=1), tokens_dir, tmp_path)


class _Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self._path),)


def _fingerprint(checkpoint: Path) -> str:
    return str(json.loads((checkpoint / "state.json").read_text())["fingerprint"])
