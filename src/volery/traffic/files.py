"""Files that are whole or not there: written beside, then renamed, readable by their owner only."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content as a whole.

    Not forced to disk: what is written here is about processes that do not survive a power cut. So
    after one it may be torn, and who reads it goes on without.
    """
    draft = path.with_name(f"{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
