"""A figure: the same chart drawn for a wide and a narrow page, its words, and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

from tinylm.report.svg import Plot, shape

__all__ = ["Figure", "Legend", "figure", "multiples", "swatch"]

PAGE, WIDE, NARROW = 1040, 508, 350  # pixels: a desktop page, half of it, a phone less its margins

Value = str | float | int | None
Legend = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Figure:
    """What the template shows of one chart."""

    name: str
    title: str
    alt: str
    caption: str
    wide: Markup
    narrow: Markup
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    legend: list[tuple[Markup, str]] = field(default_factory=list)
    full: bool = False

    @property
    def cells(self) -> list[list[str]]:
        """The table as text: enough digits to compute with, nothing where there is no number."""
        return [[_cell(value) for value in row] for row in self.rows]


def _cell(value: Value) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def figure(
    name: str,
    title: str,
    draw: Callable[[int], Plot],
    *,
    alt: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Value]],
    caption: str = "",
    legend: Legend = (),
) -> Figure:
    """Return the figure that `draw(width)` gives at both widths.

    Args: alt: what a reader who cannot see the chart should know.
          columns, rows: the numbers behind the chart; they become its table and its CSV.
    """
    wide, narrow = (Markup(draw(width).svg()) for width in (WIDE, NARROW))
    return Figure(name, title, alt, caption, wide, narrow, columns, rows, _keys(legend))


def multiples(
    name: str,
    title: str,
    panels: Sequence[tuple[str, Callable[[int], Plot]]],
    *,
    alt: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Value]],
    caption: str = "",
) -> Figure:
    """Return a figure of one small chart per (heading, draw), as wide as the page."""
    across = PAGE // min(3, max(2, len(panels))) - 12
    wide, narrow = (Markup("".join(_panel(heading, draw(w)) for heading, draw in panels)) for w in (across, NARROW))
    return Figure(name, title, alt, caption, wide, narrow, columns, rows, full=True)


def _panel(heading: str, plot: Plot) -> str:
    return f'<div class="panel"><p class="heading">{escape(heading)}</p>{plot.svg()}</div>'


def _keys(legend: Legend) -> list[tuple[Markup, str]]:
    return [(swatch(series), label) for label, series in legend] if len(legend) > 1 else []


def swatch(series: int) -> Markup:
    """Return the sign of a series for a legend."""
    return Markup(f'<svg width="14" height="14" aria-hidden="true">{shape(7, 7, series, 4.2)}</svg>')
