"""The two names that lead to an environment's home: the application's, and the environments'.

Commands that only look, or act on what runs, need nothing else of a manifest, and the typed model
costs ten times as much as all they do. So the names are read alone, as far as they can be told:
with mistakes elsewhere in the manifest nobody is kept from looking at, or going back to, what runs.
A file that is no YAML (half a line, a merge conflict) is read by its top-level keys. Where the
names cannot be told, `read` says every mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from volery.manifest.load import missing, read_bounded
from volery.manifest.yaml12 import Mapping, Scalar, compose
from volery.model.names import is_name

DEFAULT_ENVIRONMENTS = ("dev",)
_TOP_LEVEL = re.compile(r"^(?=[^\s#])", re.MULTILINE)


@dataclass(frozen=True)
class Names:
    """What an application and its environments are called; the first one is the default."""

    app: str
    environments: tuple[str, ...]


def names(path: Path) -> Names | None:
    """The names in a manifest; None if they cannot be told.

    Raises:
        VoleryError: there is no such file.
    """
    data = read_bounded(path)
    if isinstance(data, str):
        if not path.exists():
            raise missing(path)
        return None
    root, _ = compose(data, str(path))
    if root is None:
        root, mistakes = compose(_entries(data), str(path))
        root = None if mistakes else root
    app = root.entries.get("app") if root else None
    if root is None or app is None or not isinstance(app.value, Scalar):
        return None
    environments = _environments(root)
    found = (app.value.value, *environments)
    return (
        Names(app.value.text, environments) if environments and all(map(is_name, found)) else None
    )


def _entries(data: bytes) -> bytes:
    """What belongs to the two top-level keys with names, whatever stands between them."""
    entries = _TOP_LEVEL.split(data.decode("utf-8-sig", "replace"))
    return "".join(one for one in entries if one.startswith(("app:", "environments:"))).encode()


def _environments(root: Mapping) -> tuple[str, ...]:
    written = root.entries.get("environments")
    if written is None:
        return DEFAULT_ENVIRONMENTS
    return tuple(written.value.entries) if isinstance(written.value, Mapping) else ()
