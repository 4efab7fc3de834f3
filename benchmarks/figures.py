"""Numbers for people: percentiles, milliseconds, ratios, and whether a goal is met. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def milliseconds(seconds: float) -> str:
    """0.0123 -> 12 ms; below 10 ms with two digits that count."""
    value = seconds * 1000
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def megabytes(size: float) -> str:
    """Bytes in MB (10^6)."""
    return f"{size / 1e6:.1f} MB"


def ratio(value: float) -> str:
    """1.234 -> 1.23x."""
    return f"{value:.2f}x"


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of what was measured in the same round."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def met(condition: bool) -> str:
    """A goal's cell."""
    return "yes" if condition else "no"
