"""The two consoles: results on stdout, progress on stderr. Plain without a terminal or with
NO_COLOR.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import cache

from rich.console import Console

STYLES = {
    "healthy": "green",
    "ready": "green",
    "done": "green",
    "live": "green",
    "deploying": "cyan",
    "starting": "cyan",
    "degraded": "yellow",
    "unready": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "down": "red",
    "failed": "red",
    "refused": "red",
    "rolled_back": "red",
    "rolling_back": "red",
}


@cache
def out() -> Console:
    """Where results go."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Where progress goes."""
    return _console(stderr=True)


def moves(console: Console) -> bool:
    """Whether what is shown there may move: on a terminal that can, unless plain lines are
    wanted."""
    return console.file.isatty() and not console.is_dumb_terminal and not _is_plain()


def give_back_cursor() -> None:
    """From now on whoever is ended by SIGTERM shows the cursor again."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: object) -> None:
    for console in (out(), err()):
        console.show_cursor()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _is_plain() -> bool:
    return bool(os.environ.get("NO_COLOR"))


class _Piped(Console):
    """Where its reader has enough (`| head`), `main` says with which code it ends."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return _Piped(
        stderr=stderr,
        color_system=None if _is_plain() else "auto",
        highlight=False,
        emoji=False,
        width=width,
        soft_wrap=True,
    )


def styled(word: str) -> str:
    """A state in its colour."""
    style = STYLES.get(word)
    shown = word.replace("_", " ")
    return f"[{style}]{shown}[/]" if style else shown
