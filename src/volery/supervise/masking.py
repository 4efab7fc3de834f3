"""Text from services made fit to show: secrets masked, bytes decoded, control characters harmless.

Colours are dropped, every other control character but the tab is replaced, so that no output can
steer the terminal of who reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"
_COLOUR = re.compile(r"\x1b\[[0-9;:]*[mK]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(content: bytes) -> str:
    """One line as text, whatever was written."""
    text = content.decode("utf-8", errors="replace").removesuffix("\r")
    return _CONTROL.sub("\ufffd", _COLOUR.sub("", text))


class Masking:
    """Replaces secret values wherever they occur in a line."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # A secret of several lines is shown line by line, and so is masked line by line.
        parts = {line.strip() for secret in secrets for line in secret.splitlines()}
        words = sorted((re.escape(part) for part in parts if part), key=len, reverse=True)
        self._pattern = re.compile("|".join(words)) if words else None

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text
