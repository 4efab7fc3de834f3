"""The PATH that every command gets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from volery.manifest.inherited import inherited, with_python

OURS = str(Path(sys.executable).parent)


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("/home/me/venv/bin:/bin", f"/home/me/venv/bin:/bin:{OURS}"),
        (f"{OURS}:/bin", f"{OURS}:/bin"),
        ("", f"{os.defpath}:{OURS}"),
        (None, f"{os.defpath}:{OURS}"),
    ],
)
def test_pythons_folder_is_on_path_once_and_behind_the_callers(
    given: str | None, seen: str
) -> None:
    assert with_python(given) == seen


def test_nothing_else_of_the_caller_is_inherited() -> None:
    assert inherited({"AWS_KEY": "x", "HOME": "/h", "PATH": OURS}) == {"HOME": "/h", "PATH": OURS}
