"""The sound part of a manifest's values: what is left without those that have a mistake.

So one mistake does not hide another one: the rest is still checked for names, order and commands.
Where something must be there, something takes its place that nothing is said about.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from volery.manifest.mistake import Path
from volery.manifest.tree import TEXT_PLACES, matches
from volery.model.application import Application
from volery.model.fields import WRITTEN

ROUNDS_MAX = 5
"""What is left out may leave another mistake behind: a list that must not be empty, say."""
_COMMAND = "$RUN"
"""A command, or a word of one, that is only known when it is run."""
_REQUIRED = {"app": "unnamed", "run": _COMMAND}
_OF_A_ROUTE = {"path": "/.unchecked/{}", "host": "unchecked-{}"}
"""They collide with no other route."""


class Sound:
    """Values without those that have a mistake, and where the others were written."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._left = copy.deepcopy(values)
        self._positions: dict[int, list[int]] = {}
        """By `id` of a list that lost items: where the others stood."""

    def application(self, errors: Iterable[ErrorDetails]) -> Application | None:
        """What is described by the values without mistakes; None if nothing sensible is left."""
        for _ in range(ROUNDS_MAX):
            self._leave_out(errors)
            try:
                return Application.model_validate(self._left, context=WRITTEN)
            except ValidationError as invalid:
                errors = invalid.errors(include_url=False)
        return None

    def written(self, path: Path) -> Path:
        """A path in the application -> the path in what was written."""
        inside: Any = self._left
        found: list[str | int] = []
        for step in path:
            positions = self._positions.get(id(inside))
            found.append(positions[step] if positions and isinstance(step, int) else step)
            key = _key(inside, step)
            inside = None if key is None else inside[key]
        return tuple(found)

    def _leave_out(self, errors: Iterable[ErrorDetails]) -> None:
        items: dict[int, tuple[list[Any], set[int]]] = {}
        for holder, key, instead in [self._faulty(error) for error in errors]:
            if instead is not None:
                holder[key] = instead
            elif isinstance(holder, list):
                items.setdefault(id(holder), (holder, set()))[1].add(key)
            else:
                holder.pop(key, None)
        for holder, keys in items.values():
            positions = self._positions.setdefault(id(holder), list(range(len(holder))))
            for index in sorted(keys, reverse=True):
                del holder[index], positions[index]

    def _faulty(self, error: ErrorDetails) -> tuple[Any, Any, object]:
        """The mapping or list that holds a mistake, its key there, and what to put instead."""
        inside: Any = self._left
        holder, key = inside, ""
        *above, last = error["loc"]
        is_missing = error["type"] == "missing"
        for step in above if is_missing else error["loc"]:
            found = _key(inside, step)
            if found is None:
                break
            holder, key, inside = inside, found, inside[found]
        if is_missing and isinstance(inside, dict) and last in _REQUIRED:
            return inside, last, _REQUIRED[str(last)]
        if error["loc"][:2] == ("gateway", "routes") and key in _OF_A_ROUTE:
            if key == "path":
                holder.pop("strip", None)  # about a path that is unknown
            return holder, key, _OF_A_ROUTE[key].format(error["loc"][2])
        return holder, key, _COMMAND if _is_command(error["loc"], key) else None


def _key(inside: object, step: str | int) -> Any:
    """What a step leads by, if it leads anywhere; in a list of names a name finds its position."""
    if isinstance(inside, dict):
        return step if step in inside else None
    if not isinstance(inside, list):
        return None
    if isinstance(step, int):
        return step if step < len(inside) else None
    return inside.index(step) if step in inside else None


def _is_command(loc: Path, key: str | int) -> bool:
    """Whether it is a command, or a word of one, that others stand beside or build upon."""
    if isinstance(key, int):
        return any(matches(loc, place) for place in TEXT_PLACES)
    return loc[0] == "services" and loc[2:3] == (key,) and key in ("build", "test")
