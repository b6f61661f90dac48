"""Optional places to send metrics to, beside metrics.jsonl. All write on this machine; nothing is uploaded.

Each needs its own package; `pip install 'tinylm[loggers]'` brings all but MLflow, whose pins clash with our versions
of other packages. None is imported unless asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from tinylm.errors import ConfigError

__all__ = ["LoggerName", "MetricLogger", "Metrics"]

LoggerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class MetricLogger(Protocol):
    """Where numbers of a run go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of one step."""

    def close(self) -> None:
        """Write out what is left."""


class Metrics(AbstractContextManager["Metrics"]):
    """All loggers of a run as one; closes them at the end, also after an error."""

    def __init__(self, names: Iterable[LoggerName], out_dir: Path, settings: Mapping[str, Any]) -> None:
        """Open the loggers called `names`. Raises: ConfigError if a package is missing."""
        self._stack = ExitStack()
        self._loggers: list[MetricLogger] = []
        for name in names:
            logger = _OPENERS[name](_package(name), out_dir, settings)
            self._stack.callback(logger.close)
            self._loggers.append(logger)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the metrics of one step to every logger."""
        for logger in self._loggers:
            logger.log(step, values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()


class _TensorBoard:
    def __init__(self, package: Any, out_dir: Path, settings: Mapping[str, Any]) -> None:
        self._writer = package.SummaryWriter(str(out_dir / "tensorboard"))
        self._writer.add_text("settings", str(dict(settings)))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandbLike:
    """Weights & Biases, kept offline (`wandb sync` uploads it), and trackio, which has the same calls."""

    def __init__(self, package: Any, out_dir: Path, settings: Mapping[str, Any]) -> None:
        local = {"mode": "offline", "dir": str(out_dir)} if package.__name__ == "wandb" else {}
        self._package = package
        package.init(project="tinylm", name=out_dir.name, config=dict(settings), **local)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._package.log(dict(values), step=step)

    def close(self) -> None:
        self._package.finish()


class _MLflow:
    def __init__(self, package: Any, out_dir: Path, settings: Mapping[str, Any]) -> None:
        self._package = package
        package.set_tracking_uri((out_dir / "mlflow").resolve().as_uri())
        package.start_run(run_name=out_dir.name)
        package.log_params({name: str(value)[:250] for name, value in settings.items()})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._package.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._package.end_run()


_OPENERS: dict[LoggerName, Callable[[Any, Path, Mapping[str, Any]], MetricLogger]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandbLike,
    "mlflow": _MLflow,
    "trackio": _WandbLike,
}


def _package(name: LoggerName) -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard" if name == "tensorboard" else name)
    except ImportError:
        raise ConfigError(
            f"loggers: {name!r} asked, but its package is not installed; pip install {name} or leave it out"
        ) from None
