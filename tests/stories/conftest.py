"""A real model for the tests that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.interop.imports import import_model


@pytest.fixture(scope="session")
def story_model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A public model of 260,000 weights, as a one-file int8 model."""
    folder = shared_data / "stories260K"
    path = tmp_path_factory.mktemp("model") / "stories260K.safetensors"
    import_model(folder / "stories260K.bin", path, tokenizer=folder / "tok512.model")
    return path
