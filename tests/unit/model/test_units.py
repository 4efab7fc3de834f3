"""Units: what people write, what it means, and what is refused."""

from __future__ import annotations

import pytest

from volery.model.units import (
    Condition,
    format_duration,
    parse_condition,
    parse_duration,
    parse_percent,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300ms", 0.3), ("2s", 2), ("10m", 600), ("1h", 3600), ("1m30s", 90), ("0.5s", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "5 s", "s", "-1s", "1s2", "1:30", "1S", "1e3s", "٣s", "１s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (0, "0ms"), (1, "1s"), (4.26, "4.3s"), (90, "1m30s"), (600, "10m")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("256Mi", 256 * 2**20), ("1Gi", 2**30), ("500M", 5 * 10**8), ("1.5Ki", 1536), ("1MiB", 2**20)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "Mi", "-1Mi", "1mi", "1 Zi", "lots"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), ("5 %", 0.05), ("0%", 0), ("100%", 1), ("99.9%", 0.999)]
)
def test_percentages(text: str, share: float) -> None:
    assert parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text", ["5", "%", "101%", "-1%", "x%", "nan%", "", "1_0%", "1e1%", "+5%", "٣%"]
)
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(ValueError, match="must be a percentage"):
        parse_percent(text)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("< 1%", Condition("<", 0.01, "fraction")),
        ("<=300ms", Condition("<=", 0.3, "seconds")),
        (">= 75%", Condition(">=", 0.75, "fraction")),
        ("> 5", Condition(">", 5, "number")),
        ("> -5", Condition(">", -5, "number")),
        ("> .5", Condition(">", 0.5, "number")),
        ("< 1e3", Condition("<", 1000, "number")),
        ("< 1 %", Condition("<", 0.01, "fraction")),
    ],
)
def test_conditions(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    "text", ["1%", "= 1%", "<", "< x", "< 101%", "!= 1%", "< nan", "> inf", "> 1_0", "> -1%"]
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "measured", "holds"),
    [
        ("< 1%", 0.01, False),
        ("<= 1%", 0.01, True),
        ("> 1%", 0.01, False),
        (">= 1%", 0.01, True),
        ("< 1%", 0.001, True),
    ],
)
def test_whether_a_condition_holds(text: str, measured: float, holds: bool) -> None:
    assert parse_condition(text).holds(measured) is holds
