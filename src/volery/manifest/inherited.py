"""What of the caller's environment reaches builds, tests, gates, metrics and instances.

Asked in one place, so that what `check` finds on PATH is found wherever a command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
"""The only variables of the caller that reach a service."""


def inherited(given: Mapping[str, str]) -> dict[str, str]:
    """These variables, where given; PATH always, with Volery's own Python on it."""
    found = {name: given[name] for name in INHERITED if name in given}
    return found | {"PATH": with_python(given.get("PATH"))}


def with_python(path: str | None) -> str:
    """This PATH; the folder of the running Python comes last, where it is not on it already.

    So `python` is found where only `python3` is installed, and a virtualenv of the caller wins.
    """
    folders = (path or os.defpath).split(os.pathsep)
    python = str(Path(sys.executable).parent)
    return os.pathsep.join(folders if python in folders else [*folders, python])
