"""A table of results: as text for a terminal, as Markdown, and in its section of a page. Pure.

A *section* of a page lies between two markers that name it; only what is between them is ever
rewritten, and a table that was written can be read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Line = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """What a benchmark found: columns, rows of as many cells, sentences that explain them, and
    pictures (SVG text by file name)."""

    columns: Line
    rows: Sequence[Line]
    notes: Sequence[str] = field(default_factory=tuple)
    pictures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(self.columns)} columns, but a row has {len(row)}: {row}")


def text(table: Table) -> str:
    """For a terminal: columns aligned, the first to the left and the others to the right."""
    lines = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(_padded(line, widths)).rstrip() for line in lines]
    return "\n".join([*shown, *table.notes])


def markdown(table: Table) -> str:
    """For a page."""
    rule = tuple("---" if place == 0 else "---:" for place in range(len(table.columns)))
    lines = [_piped(line) for line in (table.columns, rule, *table.rows)]
    return "\n".join([*lines, *("\n" + note for note in table.notes)])


def parsed(page: str) -> Table:
    """The first table of a piece of Markdown, without notes.

    Raises:
        ValueError: there is none.
    """
    lines = [_cells(line) for line in page.splitlines() if line.startswith("| ")]
    if len(lines) < 2:
        raise ValueError("no table here")
    return Table(lines[0], tuple(lines[2:]))


def with_section(page: str, name: str, content: str) -> str:
    """The page with what is between the markers of a section replaced.

    Raises:
        ValueError: the page has no such section.
    """
    found = _section(name).search(page)
    if found is None:
        raise ValueError(f"no section {name}: it needs the lines {_begin(name)} and {_end(name)}")
    return f"{page[: found.start(1)]}\n{content.strip()}\n{page[found.end(1) :]}"


def section(page: str, name: str) -> str:
    """What is between the markers of a section; empty if there is no such section."""
    found = _section(name).search(page)
    return found[1].strip() if found else ""


def _section(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(_begin(name)) + r"(.*?)" + re.escape(_end(name)), re.DOTALL)


def _begin(name: str) -> str:
    return f"<!-- results of {name} -->"


def _end(name: str) -> str:
    return f"<!-- end of {name} -->"


def _padded(line: Line, widths: Iterable[int]) -> list[str]:
    return [
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _piped(line: Line) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |"


def _cells(line: str) -> Line:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return tuple(cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inner))
