"""Documents and events as JSON, by kind.

Reading is tolerant: a field that a newer Volery wrote and this one does not know is left out, a
field that an older one did not know gets its default. A document that cannot be read at all is
an error that names it; it is never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from volery.decide.comparison import Comparison, Past
from volery.decide.edges import EdgeState
from volery.model.errors import VoleryError
from volery.model.guard import GuardState
from volery.model.healing import Heal
from volery.model.ports import Change
from volery.model.state import (
    EnvironmentState,
    Event,
    Instance,
    Look,
    Release,
    Rollout,
    ServiceState,
)
from volery.model.tenure import Tenure

KINDS: Mapping[str, type] = {
    "environment": EnvironmentState,
    "service": ServiceState,
    "instance": Instance,
    "release": Release,
    "rollout": Rollout,
    "comparison": Comparison,
    "past": Past,
    "tenure": Tenure,
    "heal": Heal,
    "guard": GuardState,
    "edge": EdgeState,
}


@cache
def _adapter(type_: type) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def check(change: Change) -> None:
    """Whether this may be stored. Raises TypeError: a defect of the caller."""
    expected = KINDS.get(change.kind)
    if expected is None:
        raise TypeError(f"{change.kind!r} is no kind of document")
    if change.document is not None and not isinstance(change.document, expected):
        raise TypeError(f"{change.kind} {change.key!r} is a {type(change.document).__name__}")


def apply(
    documents: Mapping[str, Mapping[str, object]], changes: Sequence[Change]
) -> dict[str, Mapping[str, object]]:
    """The documents, by kind and key, after the changes. What is given stays as it was, and a kind
    without changes is the same object, so that its readers see at once that nothing is new."""
    fresh: dict[str, dict[str, object]] = {}
    for change in changes:
        check(change)
        if change.kind not in fresh:
            fresh[change.kind] = dict(documents[change.kind])
        if change.document is None:
            fresh[change.kind].pop(change.key, None)
        else:
            fresh[change.kind][change.key] = change.document
    return {**documents, **sealed(fresh)}


def sealed(documents: Mapping[str, dict[str, object]]) -> dict[str, Mapping[str, object]]:
    """Documents by kind that nobody can change."""
    return {kind: MappingProxyType(found) for kind, found in documents.items()}


def encode(kind: str, key: str, document: object) -> str:
    """The document as JSON.

    An environment keeps only what its manifest says: whether a person wrote a value decides
    whether it overrides another. Everything else is stored in full, so that a new default in a
    later version does not change what runs.
    """
    return _dump(KINDS[kind], f"{kind} {key}", document, exclude_unset=kind == "environment")


def decode(kind: str, key: str, text: str) -> object:
    """The document in this JSON. Raises VoleryError if it is none."""
    return _load(KINDS[kind], f"{kind} {key}", text)


def encode_event(event: Event) -> str:
    """The event as JSON, without its sequence number."""
    return _dump(Event, f"event {event.kind}", event, exclude={"seq"})


def decode_event(seq: int, text: str) -> Event:
    """The event in this JSON. Raises VoleryError if it is none."""
    event = _load(Event, f"event {seq}", text)
    assert isinstance(event, Event)
    return replace(event, seq=seq)


def encode_look(look: Look) -> str:
    """The look as JSON."""
    return _dump(Look, f"look {look.rollout} {look.number}", look)


def decode_look(name: str, text: str) -> Look:
    """The look in this JSON. Raises VoleryError if it is none."""
    look = _load(Look, f"look {name}", text)
    assert isinstance(look, Look)
    return look


def without_rollout(changes: Sequence[Change]) -> list[str]:
    """The rollouts that these changes delete; their looks go with them."""
    return [item.key for item in changes if item.kind == "rollout" and item.document is None]


def _dump(type_: type, name: str, value: object, **options: Any) -> str:
    try:
        return _adapter(type_).dump_json(value, **options).decode()
    except PydanticSerializationError as error:
        raise VoleryError(f"{name} cannot be stored: {error}") from error


def _load(type_: type, name: str, text: str) -> object:
    try:
        return _adapter(type_).validate_json(text, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise VoleryError(
            f"{name} cannot be read from the store: {place}: {first['msg']}",
            hint="it was written by another version of Volery, or the file is damaged",
        ) from error
