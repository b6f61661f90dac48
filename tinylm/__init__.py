"""TinyLM: text in, a small story model out, stories in bulk from it on ordinary CPUs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylm.config import GenerateOptions
    from tinylm.engine import Engine, load_engine
    from tinylm.errors import TinyLMError
    from tinylm.stories.generate import generate_file
    from tinylm.stories.job import GenerateJob
    from tinylm.stories.telling import generate_story

__version__ = "0.1.0"

__all__ = [
    "Engine",
    "GenerateJob",
    "GenerateOptions",
    "TinyLMError",
    "__version__",
    "generate_file",
    "generate_story",
    "load_engine",
]

# Loaded at first use: `import tinylm` stays quick, and imports neither torch nor the engine.
_HOMES = {
    "Engine": "tinylm.engine",
    "GenerateJob": "tinylm.stories.job",
    "GenerateOptions": "tinylm.config",
    "TinyLMError": "tinylm.errors",
    "generate_file": "tinylm.stories.generate",
    "generate_story": "tinylm.stories.telling",
    "load_engine": "tinylm.engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
