"""Commands that make a model: `run`, `up`, `train`."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
