"""Hiding secret values in text that people will see: logs, tails, reasons.

Every place where a value occurs is hidden, overlapping ones too. Of a value with several lines (a
key file) each longer line is hidden as well, because output is shown line by line. So is what a
value becomes in a URL or in JSON, since that is how drivers and loggers print it. Values shorter
than `SHORTEST` are left alone: hiding every "1" or "on" would make text unreadable, say where the
value is, and protect nothing that could not be guessed at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

SHORTEST = 4
SHORTEST_LINE = 8
LONGEST_IN_URLS = 2048
MASK = "***"
_LEFT_IN_URLS = ("", "/", "!'()*", "$&+,;=")
"""What is not percent-encoded: by most, by Python, by JavaScript, and by Go before a host."""
_GO_JSON = str.maketrans({"&": r"\u0026", "<": r"\u003c", ">": r"\u003e"})


class Masking:
    """Hides these values: `Masking(values)(text)` is the text with `***` in their places."""

    def __init__(self, values: Iterable[str]) -> None:
        self._parts = _parts(values)

    def __call__(self, text: str) -> str:
        """The text without the values."""
        spans = sorted(span for part in self._parts for span in _found(text, part))
        shown: list[str] = []
        position = 0
        for start, end in spans:
            if start > position or not shown:
                shown += [text[position:start], MASK]
            position = max(position, end)
        return "".join(shown) + text[position:]


def _parts(values: Iterable[str]) -> set[str]:
    parts: set[str] = set()
    for value in values:
        whole = value.strip()
        if len(whole) >= SHORTEST:
            parts |= {whole, *_in_urls(whole), *_in_json(whole)}
        lines = [line.strip() for line in value.splitlines()]
        parts.update(line for line in lines if len(line) >= SHORTEST_LINE)
    return parts


def _in_urls(value: str) -> Iterator[str]:
    if len(value) > LONGEST_IN_URLS:  # a key file: that would take long, again and again
        return
    for left in _LEFT_IN_URLS:
        yield quote(value, safe=left, errors="replace")
    yield quote_plus(value, errors="replace")


def _in_json(value: str) -> Iterator[str]:
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield from (escaped, escaped.translate(_GO_JSON))


def _found(text: str, part: str) -> Iterator[tuple[int, int]]:
    start = text.find(part)
    while start >= 0:
        yield start, start + len(part)
        start = text.find(part, start + 1)
