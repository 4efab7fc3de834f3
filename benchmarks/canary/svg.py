"""Evidence over time as a picture: plain SVG text, logarithmic upwards. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 78, 190, 40, 48
COLOURS = ("#c1292e", "#0b6e4f", "#235789", "#f1a208", "#6d6875", "#8f2d56", "#00a6a6")
LOWEST, HIGHEST = 1e-2, 1e6


@dataclass(frozen=True)
class Curve:
    """One line: (seconds, odds)."""

    name: str
    points: Sequence[tuple[float, float]]


def picture(title: str, curves: Sequence[Curve], limit: float, marks: Sequence[float]) -> str:
    """Odds over seconds, a line at the odds that decide, and marks at moments."""
    last = max((x for curve in curves for x, _ in curve.points), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, title, "start"),
        *_grid(last),
        _across(limit, "#888", "6 4"),
        _text(WIDTH - RIGHT + 6, _up(limit) + 4, f"{limit:,g}:1 decides", "start"),
    ]
    for mark in marks:
        x = _right(mark, last)
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#bbb"'
            ' stroke-dasharray="2 3"/>'
        )
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{_right(x, last):.1f},{_up(y):.1f}" for x, y in curve.points)
        parts.append(f'<polyline fill="none" stroke="{colour}" points="{points}"/>')
        level = TOP + 8 + 18 * number
        left = WIDTH - RIGHT + 60
        parts.append(
            f'<line x1="{left}" y1="{level}" x2="{left + 18}" y2="{level}" stroke="{colour}"/>'
        )
        parts.append(_text(left + 24, level + 4, curve.name, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _right(seconds: float, last: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * seconds / last


def _up(odds: float) -> float:
    span = math.log10(HIGHEST / LOWEST)
    place = math.log10(min(HIGHEST, max(LOWEST, odds)) / LOWEST) / span
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - place)


def _grid(last: float) -> list[str]:
    parts = []
    for power in range(-2, 7):
        parts.append(_across(10.0**power, "#e4e4e4"))
        odds = f"{10**power:,}:1" if power >= 0 else f"1:{10**-power:,}"
        parts.append(_text(LEFT - 6, _up(10.0**power) + 4, odds, "end"))
    for part in range(5):
        seconds = last * part / 4
        parts.append(_text(_right(seconds, last), HEIGHT - BOTTOM + 18, f"{seconds:.0f}", "middle"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*parts, _text(middle, HEIGHT - 10, "seconds since the deploy began", "middle")]


def _across(odds: float, colour: str, dashes: str = "") -> str:
    level = _up(odds)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{LEFT}" y1="{level:.1f}" x2="{WIDTH - RIGHT}" y2="{level:.1f}"'
        f' stroke="{colour}"{dashed}/>'
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
