"""Answers from outside as one line that can be shown: bounded, harmless, without secrets.

What a command or server says is bytes from strangers. A line is taken from it, control characters
are replaced, secrets masked *before* it is shortened, so that no half of one can remain.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

from volery.model.masking import Masking
from volery.supervise.text import clean

KEPT_BYTES = 2**16
SHOWN_CHARACTERS = 300


class Tail:
    """The end of what was written; a sink of `run_leashed`."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._cut = False

    def write(self, chunk: bytes) -> None:
        """More of it."""
        self.content += chunk
        self._cut = self._cut or len(self.content) > KEPT_BYTES
        del self.content[:-KEPT_BYTES]

    @property
    def last_line(self) -> str:
        """The last line that is not empty; nothing of one whose beginning was not kept."""
        whole = self.content.partition(b"\n")[2] if self._cut else self.content
        return clean(bytes(whole).strip().rpartition(b"\n")[2])


def first_line(content: bytes) -> str:
    """The first line that is not empty."""
    return clean(content.strip().partition(b"\n")[0].strip())


def shown(text: str, hidden: Iterable[str]) -> str:
    """One line without these values, not too long."""
    line = " ".join(clean(Masking(hidden)(text).encode(errors="replace")).split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 3] + "..."


def secrets_of(url: str) -> Iterator[str]:
    """What must not be shown of a URL, in the forms a server may send it back."""
    user, found, word = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    if found:
        yield from (word, unquote(word))
        yield b64encode(f"{unquote(user)}:{unquote(word)}".encode()).decode()
