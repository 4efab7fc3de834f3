"""Text from services, made fit to show."""

from __future__ import annotations

import pytest

from volery.supervise.masking import Masking, clean


@pytest.mark.parametrize(
    ("secrets", "text", "shown"),
    [
        ([], "nothing to hide", "nothing to hide"),
        (["owl"], "an owl and an owl", "an *** and an ***"),
        (["owl", "owlet"], "owlet owl", "*** ***"),
        (["a.c"], "abc a.c", "abc ***"),
        (["", "  "], "blank", "blank"),
        (["one line\nother line\n"], "x one line y", "x *** y"),
        (["one line\nother line\n"], "other line", "***"),
    ],
)
def test_masking(secrets: list[str], text: str, shown: str) -> None:
    assert Masking(secrets)(text) == shown


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
