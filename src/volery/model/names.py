"""What services, applications and environments may be called.

Apart from the other forms of values in a manifest, because commands that only look need nothing of
those.
"""

from __future__ import annotations

import re

NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"


def is_name(value: object) -> bool:
    """Whether this is a text that can be a name."""
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None
