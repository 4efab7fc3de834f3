"""Output of builds: bounded, and harmless to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from volery.build import output
from volery.build.output import Output


def tail_of(path: Path, content: bytes, lines: int = 20, *hidden: str) -> tuple[str, ...]:
    with Output(path / "log") as out:
        out.write(content)
    return out.tail(lines, hidden)


def test_tail_is_the_last_lines(tmp_path: Path) -> None:
    assert tail_of(tmp_path, b"a\nb\n\nc\n", 2) == ("b", "c")


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"10%\r55%\r100%\r\n", "100%"),
        (b"bad \xff\xfe", "bad \ufffd\ufffd"),
        (b"bell\x07 nul\x00 up\x1b[A", "bell nul up"),
        ("\u202ereversed".encode(), "reversed"),
        (b"x" * 2000, "x" * 500),
        (b"a\tb", "a       b"),
    ],
)
def test_tail_is_harmless_text(tmp_path: Path, content: bytes, shown: str) -> None:
    assert tail_of(tmp_path, content) == (shown,)


def test_tail_hides_values(tmp_path: Path) -> None:
    assert tail_of(tmp_path, b"key hunter2\n", 20, "hunter2") == ("key ***",)


def test_log_keeps_beginning_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "HEAD_BYTES_MAX", 100)
    monkeypatch.setattr(output, "TAIL_BYTES_MAX", 30)
    lines = b"".join(b"line %03d\n" % n for n in range(100))
    with Output(tmp_path / "log") as out:
        for at in range(0, len(lines), 7):
            out.write(lines[at : at + 7])
    content = (tmp_path / "log").read_bytes()
    left_out = len(lines) - 100 - 30
    assert content == lines[:100] + b"\n... %d bytes left out ...\n" % left_out + lines[-30:]


@pytest.mark.parametrize("size", [99, 100, 101, 115, 130, 131])
def test_log_leaves_out_nothing_it_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(output, "HEAD_BYTES_MAX", 100)
    monkeypatch.setattr(output, "TAIL_BYTES_MAX", 30)
    content = bytes(range(33, 33 + 94)) * 2
    with Output(tmp_path / "log") as out:
        out.write(content[:size])
    kept = (tmp_path / "log").read_bytes()
    assert (kept == content[:size]) == (size <= 130)
