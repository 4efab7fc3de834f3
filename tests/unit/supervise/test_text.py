"""Text from services, made fit to show."""

from __future__ import annotations

import pytest

from volery.supervise.text import clean


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"plain\tword", "plain\tword"),
        ("Käfig".encode(), "Käfig"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"windows\r", "windows"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"bell\x07 \x1b[2J", "bell\ufffd \ufffd[2J"),
    ],
)
def test_clean(content: bytes, shown: str) -> None:
    assert clean(content) == shown
