"""TinyLM: text in, a small story model out, stories in bulk from it on ordinary CPUs."""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
