"""Evidence over time as a picture: odds over seconds, what decides, and when each step began."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.svg import Axis, Line, plot

LOWEST, HIGHEST = 1e-2, 1e6
Point = tuple[float, float]


def picture(title: str, curves: Sequence[Line], decides: float, steps: Sequence[float]) -> str:
    """As SVG text: `decides` are the odds that decide, `steps` moments in seconds."""
    last = max((x for curve in curves for x, _ in curve.points), default=1.0) or 1.0
    x = Axis("seconds since the deploy began", 0.0, last, [last * part / 4 for part in range(5)])
    powers = [10.0**power for power in range(-2, 7)]
    y = Axis("odds to one", LOWEST, HIGHEST, powers, logarithmic=True)
    level: Sequence[Point] = ((0.0, decides), (last, decides))
    limit = Line(f"{decides:,g}:1 decides", level, dashed=True)
    marks = [
        Line(f"step {number}", ((at, LOWEST), (at, HIGHEST)), width=0.6, dashed=True)
        for number, at in enumerate(steps, 1)
    ]
    return plot(title, x, y, [*curves, limit, *marks])
