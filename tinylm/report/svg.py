"""Charts as SVG text: scales, axes, marks. Colours and fonts come from the page's style sheet, by class.

Every mark carries its value in `data-tip` (shown on hover and by the arrow keys); text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Axis", "Plot", "nice_ticks"]

Format = Callable[[float], str]
Point = tuple[float, float]


def plain(value: float) -> str:
    """Return the shortest readable spelling: 1,200 or 0.25."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers within [low, high]."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Return 1-2-5 numbers within [low, high], thinned to about `count`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**p for p in powers for d in digits if low * 0.999 <= d * 10.0**p <= high * 1.001]
        if len(ticks) <= count:
            return ticks
    return ticks


@dataclass(frozen=True)
class Axis:
    """One axis: its label with unit, its range, and how values are written."""

    label: str
    low: float
    high: float
    log: bool = False
    format: Format = plain
    ticks: tuple[tuple[float, str], ...] | None = None

    def place(self, value: float) -> float:
        """Return the position of `value` as a share of the axis, 0 to 1."""
        if self.log:
            value, low, high = math.log(max(value, 1e-300)), math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return (value - low) / (high - low) if high > low else 0.5

    def marks(self, count: int) -> list[tuple[float, str]]:
        """Return (value, label) of each tick."""
        if self.ticks is not None:
            return list(self.ticks)
        values = log_ticks(self.low, self.high, count) if self.log else nice_ticks(self.low, self.high, count)
        return [(value, self.format(value)) for value in values]


@dataclass
class Plot:
    """One chart being drawn; `svg()` gives the text. Series i is drawn in colour i and shape i."""

    x: Axis
    y: Axis
    width: int = 508
    height: int = 300
    grid: bool = True
    x_count: int = 0
    left: int = 54
    _body: list[str] = field(default_factory=list)

    RIGHT, TOP, BOTTOM = 16, 30, 44

    def px(self, value: float) -> float:
        """Return the horizontal position of `value` in pixels."""
        return self.left + self.x.place(value) * (self.width - self.left - self.RIGHT)

    def py(self, value: float) -> float:
        """Return the vertical position of `value` in pixels."""
        return self.height - self.BOTTOM - self.y.place(value) * (self.height - self.TOP - self.BOTTOM)

    def line(self, points: Sequence[Point], series: int | str, dashed: bool = False, step: bool = False) -> None:
        """Draw a line; `series` is a colour number or a class name."""
        if len(points) < 2:
            return
        pixels = [(self.px(x), self.py(y)) for x, y in points]
        path = f"M{pixels[0][0]:.1f} {pixels[0][1]:.1f}"
        for x, y in pixels[1:]:
            path += f"H{x:.1f}V{y:.1f}" if step else f"L{x:.1f} {y:.1f}"
        self._body.append(f'<path class="line {_css(series)}{" dashed" if dashed else ""}" d="{path}"/>')

    def dot(self, x: float, y: float, series: int, tip: str, small: bool = False) -> None:
        """Draw a mark of the series' shape."""
        self._body.append(shape(self.px(x), self.py(y), series, 2.6 if small else 4.2, tip, "faint" if small else ""))

    def bar(self, x0: float, x1: float, y0: float, y1: float, series: int | str, tip: str) -> None:
        """Draw a filled rectangle between two values on each axis."""
        left, right = sorted((self.px(x0), self.px(x1)))
        top, bottom = sorted((self.py(y0), self.py(y1)))
        width, height = max(right - left, 0.6), max(bottom - top, 0.6)
        self._body.append(
            f'<rect class="mark bar {_css(series)}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" data-tip="{escape(tip)}"/>'
        )

    def vertical(self, x: float, label: str, series: int | str = "rule", level: int = 0) -> None:
        """Draw a labelled vertical rule; `level` moves the label down a line."""
        at, top = self.px(x), self.TOP
        side, shift = ("end", -4) if at > self.width * 0.72 else ("start", 4)
        self._body.append(
            f'<path class="rule {_css(series)}" d="M{at:.1f} {top}V{self.height - self.BOTTOM}"/>'
            f'<text class="note" x="{at + shift:.1f}" y="{top + 9 + 12 * level}" text-anchor="{side}">'
            f"{escape(label)}</text>"
        )

    def horizontal(self, y: float, label: str, series: int | str = "rule") -> None:
        """Draw a labelled horizontal rule."""
        at, right = self.py(y), self.width - self.RIGHT
        self._body.append(
            f'<path class="rule {_css(series)}" d="M{self.left} {at:.1f}H{right}"/>'
            f'<text class="note" x="{right}" y="{at - 4:.1f}" text-anchor="end">{escape(label)}</text>'
        )

    def text(self, x: float, y: float, words: str, anchor: str = "middle", dy: float = 0, dx: float = 0) -> None:
        """Write `words` at a place given in values, shifted by pixels."""
        self._body.append(
            f'<text class="note" x="{self.px(x) + dx:.1f}" y="{self.py(y) + dy:.1f}" '
            f'text-anchor="{anchor}">{escape(words)}</text>'
        )

    def svg(self) -> str:
        """Return the chart as an SVG element."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'aria-hidden="true" focusable="false">{self._frame()}{"".join(self._body)}</svg>'
        )

    def _frame(self) -> str:
        left, right, bottom = self.left, self.width - self.RIGHT, self.height - self.BOTTOM
        out = []
        for value, label in self.y.marks(max(3, (self.height - 60) // 48)):
            at = self.py(value)
            out.append(f'<path class="grid" d="M{left} {at:.1f}H{right}"/>' if self.grid else "")
            out.append(f'<text class="tick" x="{left - 7}" y="{at + 4:.1f}" text-anchor="end">{escape(label)}</text>')
        for value, label in self.x.marks(self.x_count or max(3, self.width // 78)):
            at = self.px(value)
            out.append(f'<path class="axis" d="M{at:.1f} {bottom}v4"/>')
            out.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{escape(label)}</text>')
        out.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
        out.append(f'<text class="label" x="0" y="12">{escape(self.y.label)}</text>')
        middle = (left + right) / 2
        out.append(f'<text class="label" x="{middle:.1f}" y="{self.height - 6}" text-anchor="middle">')
        out.append(f"{escape(self.x.label)}</text>")
        return "".join(out)


def shape(x: float, y: float, series: int, size: float, tip: str = "", extra: str = "") -> str:
    """Return the SVG of a mark: circle, square, diamond, triangle, in turn, so that colour is not the only sign."""
    s, q, d, t = size, 0.9 * size, 1.25 * size, 1.2 * size
    path = (
        f"M{x - s:.1f} {y:.1f}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0Z",
        f"M{x - q:.1f} {y - q:.1f}h{2 * q:.1f}v{2 * q:.1f}h{-2 * q:.1f}Z",
        f"M{x:.1f} {y - d:.1f}l{d:.1f} {d:.1f}l{-d:.1f} {d:.1f}l{-d:.1f} {-d:.1f}Z",
        f"M{x:.1f} {y - t:.1f}l{t:.1f} {2 * q:.1f}h{-2 * t:.1f}Z",
    )[series % 4]
    tipped = f' data-tip="{escape(tip)}"' if tip else ""
    return f'<path class="{"mark " if tip else ""}dot {extra} {_css(series)}" d="{path}"{tipped}/>'


def _css(series: int | str) -> str:
    return series if isinstance(series, str) else f"s{series % 6}"
