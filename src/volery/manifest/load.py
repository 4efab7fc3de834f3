"""Reads the files of a manifest and joins them into one tree.

The root manifest may `include` others from its own folder tree; each holds `services` and nothing
else. Only regular files of bounded size are opened, and never one outside the tree. A service's
`source` is relative to the file that says so; afterwards it is relative to the root's folder.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from volery.manifest.mistake import Mistake, mistake, quoted
from volery.manifest.yaml12 import BYTES_MAX, Entry, Mapping, Node, Scalar, Sequence, compose
from volery.model.errors import Code, VoleryError

FILE_NAME = "volery.yaml"
INCLUDES_MAX = 1000


@dataclass
class Loaded:
    """The joined tree of the files."""

    root: Mapping | None
    mistakes: list[Mistake]
    folders: dict[str, str] = field(default_factory=dict)
    """By file, in order: its folder, relative to the root's."""
    complete: bool = True
    """Whether every file was read: else a service may be in one that was not."""


def find(start: Path) -> Path:
    """The nearest manifest, looking in `start` and then upwards; for a part of one, the whole.

    Raises:
        VoleryError: there is none up to the root of the file system.
    """
    folder = start.resolve()
    nearest = next(_manifests((folder, *folder.parents)), None)
    if nearest is None:
        raise VoleryError(
            f"no {FILE_NAME} here, nor in a folder above",
            code=Code.INVALID,
            hint="volery init",
            where=str(start),
        )
    found = nearest if _names_an_application(nearest) else whole_of(nearest) or nearest
    return found if start.is_absolute() else Path(os.path.relpath(found))


def whole_of(part: Path) -> Path | None:
    """The manifest in a folder above that includes this file; None if there is none."""
    real = os.path.realpath(part)
    return next((path for path in above(part) if real in _included(path)), None)


def above(path: Path) -> Iterator[Path]:
    """The manifests in the folders above that of a file, nearest first."""
    return _manifests(path.resolve().parent.parents)


def _manifests(folders: Iterable[Path]) -> Iterator[Path]:
    return (path for folder in folders if (path := folder / FILE_NAME).is_file())


def _names_an_application(path: Path) -> bool:
    """Whether it is a manifest by itself, as far as a glance can tell."""
    data = read_bounded(path)
    return isinstance(data, bytes) and re.search(rb"^app\s*:", data, re.MULTILINE) is not None


def _included(path: Path) -> Iterator[str]:
    """The files that a manifest includes, as far as it can be read."""
    root, _ = _file(path, str(path))
    listed = root.entries.get("include") if root else None
    for item in listed.value.items if listed and isinstance(listed.value, Sequence) else ():
        if isinstance(item, Scalar) and "\0" not in item.text:
            yield os.path.realpath(path.parent / item.text)


def load(path: Path) -> Loaded:
    """The manifest at `path` with its includes.

    Raises:
        VoleryError: there is no manifest at all.
    """
    file = str(_as_people_say(path))
    if not _exists(path):
        raise missing(path)
    root, mistakes = _file(path, file)
    loaded = Loaded(root, mistakes, {file: "."})
    if root is not None:
        _include(loaded, path, root)
    return loaded


def _as_people_say(path: Path) -> Path:
    """Below the current folder a path is shown relative to it, else as it was given."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def missing(path: Path) -> VoleryError:
    """What to say where a manifest that was named is not."""
    return VoleryError(
        f"there is no file {path}",
        code=Code.INVALID,
        hint="check the path: --file names the manifest",
    )


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True


def _file(path: Path, file: str) -> tuple[Mapping | None, list[Mistake]]:
    data = read_bounded(path)
    if isinstance(data, str):
        return None, [Mistake(file, 1, 1, "", data)]
    return compose(data, file)


def read_bounded(path: Path) -> bytes | str:
    """At most a little more than a manifest may have; or, as text, why it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "must be a regular file"
        with path.open("rb") as opened:
            data = opened.read(BYTES_MAX + 1)
            size = path.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        return f"cannot be read: {error}"
    if len(data) > BYTES_MAX:
        return f"must be at most 1 MiB, got {max(size, len(data)) / 2**20:.1f} MiB"
    return data


def _include(loaded: Loaded, path: Path, root: Mapping) -> None:
    listed = root.entries.get("include")
    if listed is None or not isinstance(listed.value, Sequence):
        loaded.complete = listed is None
        return
    if len(listed.value.items) > INCLUDES_MAX:
        message = f"must be at most {INCLUDES_MAX} files, got {len(listed.value.items)}"
        loaded.mistakes.append(mistake(listed.key, ("include",), message))
        loaded.complete = False
    services = root.entries.get("services") or Entry(root.mark, Mapping(root.mark, {}))
    if not isinstance(services.value, Mapping):
        return
    found = dict(services.value.entries)
    seen = {path.resolve(): str(path)}
    for index, item in enumerate(listed.value.items[:INCLUDES_MAX]):
        if not isinstance(item, Scalar) or not isinstance(item.value, str):
            loaded.complete = False  # the model says what is wrong with it
            continue
        problem = _refused(path, item.text, seen)
        if problem:
            loaded.mistakes.append(mistake(item.mark, ("include", index), problem))
            loaded.complete = False
        else:
            _join(loaded, path, item.text, found)
    joined = Entry(services.key, replace(services.value, entries=found))
    loaded.root = replace(root, entries=root.entries | {"services": joined})


def _refused(path: Path, name: str, seen: dict[Path, str]) -> str:
    """Why a file may not be included, if so."""
    folder = path.parent.resolve()
    if not name or PurePath(name).is_absolute():
        return f"must be a path relative to {path.name}, got {quoted(name)}"
    try:
        target = (folder / name).resolve()
        found = target.exists()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a link that leads to itself"
        return f"cannot be read: {quoted(name)}: {reason}"
    if not target.is_relative_to(folder):
        return f"must stay inside the folder of {path.name}, got {quoted(name)}"
    if not found:
        return f"no such file: {quoted(name)}"
    if target == path.resolve():
        return f"{path.name} includes itself"
    if target in seen:
        return f"is included twice, first as {quoted(seen[target])}"
    seen[target] = name
    return ""


def _join(loaded: Loaded, path: Path, name: str, found: dict[str, Entry]) -> None:
    name = posixpath.normpath(name)
    file = str(_as_people_say(path.parent) / name)
    root, mistakes = _file(path.parent / name, file)
    loaded.mistakes += mistakes
    loaded.folders[file] = posixpath.dirname(name) or "."
    if root is None:
        loaded.complete = False
        return
    for key, entry in root.entries.items():
        if key != "services":
            message = f"unknown key {quoted(key)}; an included file holds `services` only"
            loaded.mistakes.append(mistake(entry.key, (key,), message))
    services = root.entries.get("services")
    if services is None or not isinstance(services.value, Mapping):
        mark = services.key if services else root.mark
        loaded.mistakes.append(mistake(mark, ("services",), "must be a mapping of services"))
        loaded.complete = False
        return
    for service, entry in services.value.entries.items():
        if service in found:
            first = found[service].key
            message = f"duplicate service; the first is at {first.file}:{first.line}"
            loaded.mistakes.append(mistake(entry.key, ("services", service), message))
        else:
            found[service] = entry


def source_folder(loaded: Loaded, service: Entry) -> str:
    """A service's source folder relative to the root manifest, as posix text."""
    base = loaded.folders[service.key.file]
    node: Node | None = None
    if isinstance(service.value, Mapping) and "source" in service.value.entries:
        node = service.value.entries["source"].value
    text = node.text if isinstance(node, Scalar) else "."
    return posixpath.normpath(posixpath.join(base, text or "."))
