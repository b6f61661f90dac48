"""One protocol, several engines: `native` (C++), `torch`, `numpy` (plain, to be read) and `hf` (transformers).

Each is one file. They compute the same model; greedy text is equal on all of them. Backends must not know where a
model came from, how it was trained, or who asks.
"""

from __future__ import annotations

from pathlib import Path

from tinylm.backends.base import Backend, Generation, LoadedModel
from tinylm.errors import ConfigError

__all__ = ["BACKENDS", "Backend", "Generation", "LoadedModel", "open_backend"]

BACKENDS = ("native", "torch", "numpy", "hf")


def open_backend(name: str, path: Path, *, threads: int = 1) -> Backend:
    """Return backend `name` running the model file at `path`; close it when done.

    The native backend computes in the file's precision, the others on its dequantised float32 weights.
    Raises: ConfigError for an unknown name or a missing optional package; DataError if `hf` has no class for
            the model; FormatError if the file is damaged.
    """
    # Imported one by one: torch and transformers are slow to load, and transformers is optional.
    if name == "native":
        from tinylm.backends.native_backend import NativeBackend

        return NativeBackend(path, threads=threads)
    if name == "numpy":
        from tinylm.backends.numpy_backend import NumpyBackend

        return NumpyBackend(LoadedModel.read(path))
    if name == "torch":
        from tinylm.backends.torch_backend import TorchBackend

        return TorchBackend(LoadedModel.read(path), threads=threads)
    if name == "hf":
        from tinylm.backends.torch_hf_backend import TransformersBackend

        return TransformersBackend(LoadedModel.read(path), threads=threads)
    raise ConfigError(f"backend: no backend is called {name!r}; known backends: {', '.join(BACKENDS)}")
