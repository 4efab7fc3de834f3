"""`volery.yaml` -> an `Application`, or every mistake in it at once.

Three passes, each as far as it can go: the files (syntax, duplicates, includes), the model (types,
limits, unknown keys), the references (names, order, files and commands on this machine). A value
with a mistake of its own is left out of the last pass, the rest is still checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from volery.manifest import commands, references
from volery.manifest.explain import explain
from volery.manifest.load import FILE_NAME, Loaded, above, find, load, source_folder, whole_of
from volery.manifest.mistake import ManifestError, Mark, Mistake, Path, mistake
from volery.manifest.references import Problem
from volery.manifest.sound import Sound
from volery.manifest.tree import data, descend, key_mark
from volery.manifest.yaml12 import Mapping, Node
from volery.model.application import Application
from volery.model.fields import WRITTEN

__all__ = ["FILE_NAME", "ManifestError", "Mistake", "find", "places", "read"]


MISTAKES_MAX = 1000
"""Of one pass; what has more is not a manifest, and the rest of it is not looked at."""


def read(path: File) -> Application:
    """The application a manifest describes; sources are relative to the manifest's folder.

    Raises:
        ManifestError: everything that is wrong with it, sorted by position.
        VoleryError: there is no such file.
    """
    loaded = load(path)
    mistakes = list(loaded.mistakes)
    application: Application | None = None
    if loaded.root is not None:
        application, found = _validated(loaded, loaded.root, path.parent)
        mistakes += found
    if mistakes or application is None:
        raise ManifestError(_sorted(mistakes, list(loaded.folders)), _hint(path, loaded))
    return application


def _hint(path: File, loaded: Loaded) -> str:
    """What is meant, most likely, by a file with services alone."""
    if loaded.root is None or set(loaded.root.entries) != {"services"}:
        return ""
    whole = whole_of(path)
    if whole is not None:
        return f"it is a part of {whole}: go without --file, or name that one"
    nearest = next(above(path), None)
    if nearest is None:
        return "name the application: app: NAME"
    part = path.resolve().relative_to(nearest.parent)
    return f"if it belongs to {nearest}, write there: include: [{part}]"


def places(path: File) -> Callable[[Path], Mark]:
    """Where each part of a manifest that could be read is written: a path to file, line, column."""
    root = load(path).root
    assert root is not None
    return lambda at: descend(root, at)[2]


def _sorted(mistakes: Iterable[Mistake], files: list[str]) -> list[Mistake]:
    order = {file: index for index, file in enumerate(files)}
    return sorted(
        dict.fromkeys(mistakes),
        key=lambda item: (order[item.file], item.line, item.column, item.path),
    )


def _validated(
    loaded: Loaded, root: Mapping, folder: File
) -> tuple[Application | None, list[Mistake]]:
    values = _data(loaded, root)
    sound = Sound(values)
    try:
        application: Application | None = Application.model_validate(values, context=WRITTEN)
        errors: list[ErrorDetails] = []
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)[:MISTAKES_MAX]
        application = sound.application(errors) if len(errors) < MISTAKES_MAX else None
    said = explain((error for error in errors if loaded.complete or not _is_empty(error)), root)
    if application is None:
        return None, said
    declared = list(values["services"]) if loaded.complete else None
    problems = chain(
        references.problems(application, declared), commands.problems(application, folder)
    )
    located = [_located(problem, sound, root) for problem in islice(problems, MISTAKES_MAX)]
    return application, [*said, *located]


def _is_empty(error: ErrorDetails) -> bool:
    """Whether it says that there are no services: they may be in a file that cannot be read."""
    return error["loc"] == ("services",) and error["type"] in ("too_short", "missing")


def _data(loaded: Loaded, root: Mapping) -> dict[str, Any]:
    """The tree as plain data, every source relative to the root manifest."""
    values: dict[str, Any] = {key: data(entry.value, (key,)) for key, entry in root.entries.items()}
    services = root.entries.get("services")
    if services is not None and isinstance(services.value, Mapping):
        for name, entry in services.value.entries.items():
            service = values["services"][name]
            if isinstance(service, dict) and isinstance(service.get("source", "."), str):
                service["source"] = source_folder(loaded, entry)
    return values


def _located(problem: Problem, sound: Sound, root: Node) -> Mistake:
    path, said = sound.written(problem.path), problem.said(sound.written)
    at, _, mark = descend(root, path)
    return mistake(key_mark(root, path), path, said) if problem.at_key else mistake(mark, at, said)
