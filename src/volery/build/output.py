"""What a build or test writes: kept in a log file of bounded size, and its last lines for people.

The beginning of the output stays (the first error is usually there), and its end; the middle of a
very long one is left out. A disk that is full ends the log, never the command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from volery.model.masking import Masking

HEAD_BYTES_MAX = 8 * 2**20
TAIL_BYTES_MAX = 64 * 2**10
LINE_CHARACTERS_MAX = 500
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


class Output:
    """The log of one stage. `trouble` says why it could not be written, if so."""

    def __init__(self, path: Path) -> None:
        self.trouble = ""
        self._tail = bytearray()
        self._head_bytes = 0
        self._left_out = 0
        self._file = path.open("wb", buffering=0)

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            end = bytes(self._tail[-self._left_out :]) if self._left_out else b""
            missing = self._left_out - len(end)
            self._append(b"\n... %d bytes left out ...\n" % missing + end if missing else end)

    def write(self, chunk: bytes) -> None:
        """Output of the command."""
        fits = chunk[: HEAD_BYTES_MAX - self._head_bytes]
        self._append(fits)
        self._head_bytes += len(fits)
        self._left_out += len(chunk) - len(fits)
        self._tail += chunk
        del self._tail[:-TAIL_BYTES_MAX]

    def note(self, line: str) -> None:
        """A line of ours, in the log only."""
        self._append(line.encode(errors="backslashreplace") + b"\n")

    def tail(self, lines: int, hidden: Iterable[str]) -> tuple[str, ...]:
        """The last lines as text that can be shown anywhere, these values masked."""
        text = _ESCAPES.sub("", self._tail.decode(errors="replace"))
        found = [_shown(line) for line in Masking(hidden)(text).split("\n")]
        return tuple([line for line in found if line][-lines:])

    def _append(self, content: bytes) -> None:
        try:
            while content and not self.trouble:
                content = content[self._file.write(content) :]
        except OSError as error:
            self.trouble = error.strerror or str(error)


def _shown(line: str) -> str:
    """One line as a terminal would leave it: overwritten parts gone, nothing that moves cursors."""
    last = line.rstrip().rpartition("\r")[2].expandtabs()
    return "".join(c for c in last if c.isprintable())[:LINE_CHARACTERS_MAX].rstrip()
