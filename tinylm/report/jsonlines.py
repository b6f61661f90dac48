"""Rows of a JSON-lines file, an unfinished last line left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["read_rows"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `path`; none when the file is absent, and not the line that a kill cut short."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
