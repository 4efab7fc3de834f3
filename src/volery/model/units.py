"""Durations, sizes, percentages and conditions as people write them.

Numbers inside Volery are plain: seconds (float), bytes (int), fractions (float, 5 % = 0.05).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(|k|M|G|T|Ki|Mi|Gi|Ti)B?")
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h|d)")
_CONDITION = re.compile(r"(<=|>=|<|>)\s*(\S+(?:\s+%)?)")
_NUMBER = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?")


def parse_duration(text: str) -> float:
    """Seconds in `300ms`, `2s`, `1m30s`. Raises ValueError on anything else."""
    total, position = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != position:
            break
        total += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    if not text or position != len(text):
        raise ValueError(f"must be a duration such as 300ms, 2s, 10m or 1h, got {text!r}")
    return total


def format_duration(seconds: float) -> str:
    """The shortest readable form: 0.25 -> 250ms, 2 -> 2s, 90 -> 1m30s, 4.26 -> 4.3s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m" if minutes else f"{hours}h"


def parse_rate(text: str) -> float:
    """Times a second in `5000/h`, `30/m`. Raises ValueError on anything else."""
    match = _RATE.fullmatch(text) if len(text) <= 64 else None
    if match is None:
        raise ValueError(f"must be a number a second, or such as 30/m or 5000/h, got {text!r}")
    return float(match[1]) / _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes in `256Mi`, `1Gi`, `500M`. Raises ValueError on anything else."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a size such as 256Mi or 1Gi, got {text!r}")
    return int(float(match[1]) * _BYTES[match[2]])


def parse_percent(text: str) -> float:
    """The fraction in `5%` (0.05). Raises ValueError on anything else, also outside 0 to 100 %."""
    match = _PERCENT.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise ValueError(f"must be a percentage such as 5%, got {text!r}")
    return float(match[1]) / 100


@dataclass(frozen=True)
class Condition:
    """A limit such as `< 1%` or `<= 300ms`: operator, value in plain units, and which units."""

    operator: Literal["<", "<=", ">", ">="]
    value: float
    unit: Literal["fraction", "seconds", "number"]

    def holds(self, measured: float) -> bool:
        """Whether a measured value keeps the limit."""
        match self.operator:
            case "<":
                return measured < self.value
            case "<=":
                return measured <= self.value
            case ">":
                return measured > self.value
            case ">=":
                return measured >= self.value


def parse_condition(text: str) -> Condition:
    """`< 1%`, `<= 300ms`, `>= 99.9%`, `< 5`. Raises ValueError on anything else."""
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a condition such as '< 1%' or '<= 300ms', got {text!r}")
    operator, value = match[1], match[2]
    if value.endswith("%"):
        return Condition(operator, parse_percent(value), "fraction")  # type: ignore[arg-type]
    if _NUMBER.fullmatch(value):
        return Condition(operator, float(value), "number")  # type: ignore[arg-type]
    return Condition(operator, parse_duration(value), "seconds")  # type: ignore[arg-type]
