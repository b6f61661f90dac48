"""Optional loggers: they get every metric, are closed, and a missing package is one clear line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tinylm.errors import ConfigError
from tinylm.progress import NullProgress
from tinylm.train import TrainConfig, train
from tinylm.train.loggers import Metrics

Make = Callable[..., TrainConfig]


class _Recorder(ModuleType):
    """Stands for any of the packages: keeps the calls."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> _Recorder:
            self.calls.append((name, args, kwargs))
            return self

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> dict[str, _Recorder]:
    modules = {name: _Recorder(name) for name in ("wandb", "trackio", "mlflow", "torch.utils.tensorboard")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return modules


def test_every_logger_gets_every_metric(recorders: dict[str, _Recorder], tmp_path: Path) -> None:
    with Metrics(("wandb", "trackio", "mlflow", "tensorboard"), tmp_path, {"seed": 1}) as metrics:
        metrics.log(7, {"loss": 2.0})
    assert recorders["wandb"].named("log") == [(({"loss": 2.0},), {"step": 7})]
    assert recorders["wandb"].named("init")[0][1]["mode"] == "offline"
    assert recorders["trackio"].named("finish") == [((), {})]
    assert recorders["mlflow"].named("log_metrics") == [(({"loss": 2.0},), {"step": 7})]
    assert recorders["torch.utils.tensorboard"].named("add_scalar") == [(("loss", 2.0, 7), {})]
    assert [called for called, _, _ in recorders["torch.utils.tensorboard"].calls][-1] == "close"


def test_a_run_sends_its_losses_and_closes(
    recorders: dict[str, _Recorder], tokens_dir: Path, tmp_path: Path, tiny_run: Make
) -> None:
    config = tiny_run(steps=3, loggers=("wandb",))
    train(config, tokens_dir, tokens_dir / "tokenizer.model", tmp_path, NullProgress())
    logged = recorders["wandb"].named("log")
    assert [kwargs["step"] for _, kwargs in logged] == [1, 2, 3]
    assert all("loss_nats" in args[0] for args, _ in logged)
    assert recorders["wandb"].named("finish")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"loggers: 'mlflow' asked, but its package is not installed; pip install"):
        Metrics(("mlflow",), tmp_path, {})
