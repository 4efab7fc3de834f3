"""Lines that move are for terminals on which they can, and for people who want them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
from volery.cli.commands.looking import _again_and_again
from volery.cli.follow import _Story
from volery.cli.session import Session
from volery.cli.show.console import out, styled

out().print(f"[bold]{styled('healthy')}[/]")
with _Story(None) as story:
    story.show([])
    print("begun", flush=True)
    time.sleep(float(sys.argv[1]))
rounds = iter((None, None))
try:
    _again_and_again(lambda: next(rounds), True, Session(None, None, "text", False))
except StopIteration:
    pass
print("over", flush=True)
"""


def begin(seconds: float, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    terminal, end = pty.openpty()
    left_out = ("NO_COLOR", "TERM")
    base = {key: value for key, value in os.environ.items() if key not in left_out}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds)],
        env=base | {"TERM": "xterm"} | environment,
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    return process, terminal


def read(terminal: int, until: bytes = b"") -> bytes:
    """What comes until this, or until nobody can write there any more."""
    found, deadline = b"", time.monotonic() + 60
    while not (until and until in found) and time.monotonic() < deadline:
        try:
            found += os.read(terminal, 65536)
        except OSError:
            break
    return found


@pytest.mark.parametrize("quiet", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_lines_stay_plain(quiet: dict[str, str]) -> None:
    process, terminal = begin(0, **quiet)
    said = read(terminal)
    os.close(terminal)
    assert process.wait() == 0 and said.rstrip().endswith(b"over")
    assert b"\x1b" not in said and b"healthy" in said


def test_elsewhere_they_move() -> None:
    process, terminal = begin(0)
    said = read(terminal)
    os.close(terminal)
    assert process.wait() == 0 and b"\x1b[?25l" in said and b"\x1b[32m" in said.replace(b"1;", b"")


def test_whoever_is_ended_leaves_the_cursor() -> None:
    process, terminal = begin(60)
    said = read(terminal, b"begun")
    assert said.count(b"\x1b[?25l") > said.count(b"\x1b[?25h")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    said += read(terminal)
    os.close(terminal)
    assert said.rfind(b"\x1b[?25h") > said.rfind(b"\x1b[?25l")
