"""Plots as plain SVG text: a few lines, axes and a legend. Pure; no plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 48
COLOURS = ("#0b6e4f", "#c1292e", "#235789", "#f1a208", "#6d6875", "#8f2d56", "#00a6a6", "#444444")


@dataclass(frozen=True)
class Line:
    """One line of a plot; `width` in pixels."""

    name: str
    points: Sequence[tuple[float, float]]
    width: float = 1.6
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis: what it says, from where to where, which marks, logarithmic or not."""

    title: str
    low: float
    high: float
    marks: Sequence[float]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one; cut at both."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log10(max(x, 1e-12)) for x in (value, low, high))
        return min(1.0, max(0.0, (value - low) / (high - low)))


def plot(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """The whole picture as SVG text."""
    across = WIDTH - LEFT - RIGHT
    down = HEIGHT - TOP - BOTTOM

    def at(point: tuple[float, float]) -> str:
        return f"{LEFT + across * x.place(point[0]):.1f},{TOP + down * (1 - y.place(point[1])):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, title, weight="bold", size=14),
        *_marks(x, y, at),
    ]
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        points = " ".join(at(point) for point in line.points)
        stroke = f'stroke="{colour}" stroke-width="{line.width}"{dash}'
        parts.append(f'<polyline fill="none" {stroke} points="{points}"/>')
        level = TOP + 8 + 18 * index
        left = WIDTH - RIGHT + 12
        parts.append(f'<line x1="{left}" y1="{level}" x2="{left + 22}" y2="{level}" {stroke}/>')
        parts.append(_text(left + 28, level + 4, line.name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _marks(x: Axis, y: Axis, at: Callable[[tuple[float, float]], str]) -> list[str]:
    parts = []
    for mark in y.marks:
        left, level = at((x.low, mark)).split(",")
        right = WIDTH - RIGHT
        parts.append(f'<line x1="{left}" y1="{level}" x2="{right}" y2="{level}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, float(level) + 4, f"{mark:,g}", anchor="end"))
    for mark in x.marks:
        place = float(at((mark, y.low)).split(",")[0])
        parts.append(_text(place, HEIGHT - BOTTOM + 16, f"{mark:,g}", anchor="middle"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 10, x.title, anchor="middle"))
    turned = f' transform="rotate(-90 16 {HEIGHT / 2})"'
    parts.append(_text(16, HEIGHT / 2, y.title, anchor="middle", more=turned))
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    weight: str = "normal",
    size: int = 12,
    more: str = "",
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}{more}>{escape(text)}</text>'
