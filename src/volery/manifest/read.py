"""`volery.yaml` -> an `Application`, or every mistake in it at once.

Three passes, each as far as it can go: the files (syntax, duplicates, includes), the model (types,
limits, unknown keys), the references (names, order, files and commands on this machine). A value
with a mistake of its own is left out of the last pass, the rest is still checked.
"""

from __future__ import annotations

import copy
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
from volery.manifest.tree import data, descend, key_mark
from volery.manifest.yaml12 import Mapping, Node
from volery.model.application import Application
from volery.model.fields import WRITTEN

__all__ = ["FILE_NAME", "ManifestError", "Mistake", "find", "places", "read"]


MISTAKES_MAX = 1000
"""Of one pass; what has more is not a manifest."""
SOUND_ROUNDS_MAX = 5
_UNCHECKED: dict[str, object] = {"app": "unnamed", "run": ["$RUN"]}


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
    try:
        application = Application.model_validate(values, context=WRITTEN)
        errors: list[ErrorDetails] = []
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)[:MISTAKES_MAX]
        sound = _sound(values, errors)
        if sound is None:
            return None, explain(errors, root)
        application = sound
    declared = list(values["services"])
    problems = chain(
        references.problems(application, declared), commands.problems(application, folder)
    )
    located = [_located(problem, root) for problem in islice(problems, MISTAKES_MAX)]
    return application, [*explain(errors, root), *located]


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


def _sound(values: dict[str, Any], errors: Iterable[ErrorDetails]) -> Application | None:
    """The application without the values that have a mistake; None if nothing sensible is left."""
    left = copy.deepcopy(values)
    for _ in range(SOUND_ROUNDS_MAX):
        for holder, key, instead in [_faulty(left, error) for error in errors]:
            holder.pop(key, None)
            if instead is not None:
                holder[key] = instead
        try:
            return Application.model_validate(left, context=WRITTEN)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False)
    return None


def _faulty(left: dict[str, Any], error: ErrorDetails) -> tuple[dict[str, Any], str, object]:
    """The mapping and key that hold a mistake, and a value that passes if the key must be there."""
    inside: Any = left
    holder, key = left, ""
    *above, last = error["loc"]
    missing_key = error["type"] == "missing"
    for step in above if missing_key else error["loc"]:
        if isinstance(inside, dict) and step in inside:
            holder, key = inside, str(step)
        elif not (isinstance(inside, list) and isinstance(step, int) and step < len(inside)):
            break
        inside = inside[step]
    if missing_key and isinstance(inside, dict) and last in _UNCHECKED:
        return inside, str(last), _UNCHECKED[str(last)]
    if error["loc"][:2] == ("gateway", "routes") and key == "path":
        holder.pop("strip", None)  # about a path that is unknown
        return holder, key, f"/.unchecked/{error['loc'][2]}"
    return holder, key, None


def _located(problem: Problem, root: Node) -> Mistake:
    at, _, mark = descend(root, problem.path)
    if problem.at_key:
        return mistake(key_mark(root, problem.path), problem.path, problem.message)
    return mistake(mark, at, problem.message)
