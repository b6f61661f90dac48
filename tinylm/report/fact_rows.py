"""Tables of a run's settings and of its machine; what is empty or was not asked for is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.report.words import bytes_text

__all__ = ["machine_rows", "setting_rows"]

_MACHINE = {
    "cpu": "processor",
    "quota_cores": "cores by quota",
    "isa_flags": "instruction sets",
    "l2_bytes": "second-level cache",
    "l3_bytes": "third-level cache",
    "virtual": "virtual machine",
}
_SHOWN = 8  # items of a list


def machine_rows(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name in words, value with its unit) of what is known of the machine."""
    known = {key: value for key, value in machine.items() if not _empty(value)}
    return [
        (_MACHINE.get(key, key.removesuffix("_bytes").replace("_", " ")), _machine_value(key, value))
        for key, value in known.items()
    ]


def _machine_value(key: str, value: Any) -> str:
    return bytes_text(value) if key.endswith("_bytes") else _value(value)


def setting_rows(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (name as the settings spell it, value), groups flattened."""
    rows = []
    for key, value in settings.items():
        if _empty(value) or (key == "null" and settings.get("backend") != "null"):  # the other engine's settings
            continue
        rows += setting_rows(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, _value(value))]
    return rows


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, list | tuple):
        return str(value)
    shown = " · ".join(map(str, value[:_SHOWN]))
    return f"{shown} · and {len(value) - _SHOWN} more" if len(value) > _SHOWN else shown
