"""What is filled into the questions of custom metrics: `{service}`, `{release}`, `{track}`.

Exactly these three words in braces, wherever they stand, and nothing else: the braces of PromQL
(`x{a="b"}`), of JSON and of awk stay as they are. After a `$` it is no placeholder but a variable
(`${release}`). What was filled in is not looked at again. A word in braces that is none of the
three is no mistake, but in PromQL it never has a meaning, so the linter asks about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES = ("service", "release", "track")
_PLACEHOLDER = re.compile(r"(?<!\$)\{(service|release|track)\}")
_WORD = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)\}", re.ASCII)


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with the placeholders replaced; `values` has all three."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def placeholders(text: str) -> frozenset[str]:
    """Which of the three the text has."""
    return frozenset(_PLACEHOLDER.findall(text))


def strangers(text: str) -> tuple[str, ...]:
    """Single words in braces that are not filled in."""
    return tuple(word for word in _WORD.findall(text) if word not in NAMES)
