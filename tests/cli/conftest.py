"""Fixtures of the command's tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import SHAPE

from tinylm.modelfile import random_weights
from tinylm.quantize import write_model


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every command in an empty folder, and leave the process's signal handlers as they were."""
    monkeypatch.chdir(tmp_path)
    for name in ("TINYLM_ARTIFACTS", "TINYLM_REPORTS"):
        monkeypatch.delenv(name, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_model(path, SHAPE, random_weights(SHAPE, 1), b"", "bytes", 256, 257, "int8", {"name": "tiny"})
    return path
