"""Text from services made fit to show: bytes decoded, control characters harmless.

Colours are dropped, every other control character but the tab is replaced, so that no output can
steer the terminal of who reads it.
"""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;:]*[mK]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(content: bytes) -> str:
    """One line as text, whatever was written."""
    text = content.decode("utf-8", errors="replace").removesuffix("\r")
    return _CONTROL.sub("\ufffd", _COLOUR.sub("", text))
