"""Fixtures of the benchmark's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_support import null_config

from tinylm.bench import run_sweep
from tinylm.progress import NullProgress


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished null sweep."""
    folder = tmp_path_factory.mktemp("sweep") / "run"
    run_sweep(null_config(), None, folder, NullProgress(), context={"git_commit": "0123456789abcdef"})
    return folder
