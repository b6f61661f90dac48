"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["bytes_text", "count_text", "duration", "percent", "rate"]


def duration(value_ns: float | None) -> str:
    """Return nanoseconds in a fitting unit: 850 µs, 12.3 ms, 1.24 s; 0 without one, a dash for None."""
    if not value_ns:
        return "–" if value_ns is None else "0"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(value_ns) >= size * 0.9995:
            return f"{_three(value_ns / size)}\u00a0{unit}"
    return f"{value_ns:.0f}\u00a0ns"


def bytes_text(value: float | None) -> str:
    """Return bytes in MB or GB (powers of ten); a dash for None."""
    if value is None:
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size * 0.9995:
            return f"{_three(value / size)}\u00a0{unit}"
    return f"{value:.0f}\u00a0B"


def count_text(value: float | None) -> str:
    """Return a count with thousands separated; a dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Return a rate with three significant digits; a dash for None."""
    return "–" if value is None else _three(value)


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share in per cent; a dash for None."""
    return "–" if share is None else f"{share * 100:.{digits}f}\u00a0%"


def _three(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
