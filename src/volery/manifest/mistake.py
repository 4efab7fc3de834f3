"""What is wrong with a manifest, and exactly where.

A *mistake* is one line: file, line, column, path, what is wrong and what would be right. A path is
the keys and list positions that lead to a value; its text form is what a person would search for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from volery.model.errors import Code, VoleryError

Path = tuple[str | int, ...]
SHOWN_CHARACTERS = 60
MESSAGE_CHARACTERS = 400
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Mark:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {path}{self.message}"


class ManifestError(VoleryError):
    """The manifest cannot be used; `mistakes` says everything that is wrong with it."""

    def __init__(self, mistakes: Iterable[Mistake], hint: str = "") -> None:
        self.mistakes = tuple(mistakes)
        first = self.mistakes[0]
        where = f"{first.file}:{first.line}:{first.column}"
        text = "\n".join(map(str, self.mistakes))
        super().__init__(text, code=Code.INVALID, hint=hint, where=where)


def mistake(mark: Mark, path: Path, message: str) -> Mistake:
    """A mistake at a place, with a message of bounded length."""
    if len(message) > MESSAGE_CHARACTERS:
        message = message[: MESSAGE_CHARACTERS - 1] + "…"
    return Mistake(mark.file, mark.line, mark.column, dotted(path), message)


def dotted(path: Path) -> str:
    """`services.catalog.build[0]`; a key with unusual characters is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = step if _PLAIN_KEY.fullmatch(step) else quoted(step)
            text += f".{key}" if text else key
    return text


def quoted(text: str) -> str:
    """Text of others in quotes, on one line, shortened."""
    if len(text) > SHOWN_CHARACTERS:
        text = text[: SHOWN_CHARACTERS - 1] + "…"
    return repr(text)
