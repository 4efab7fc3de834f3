"""The world as it is being changed: edits are visible at once and committed together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from volery.decide.world import World
from volery.model.guard import GuardState
from volery.model.ports import BuildStatus, Change, DocumentKind, Observation, Store
from volery.model.state import Event, Look

KINDS: tuple[DocumentKind, ...] = get_args(DocumentKind)


class Draft:
    """A `World` whose documents can be put and dropped, and the events that say why.

    `commit` writes documents and events in one transaction; before it nothing has happened.
    """

    def __init__(
        self,
        store: Store,
        now: float,
        observed: Mapping[str, Observation] | None = None,
        builds: Mapping[str, BuildStatus] | None = None,
        before: World | None = None,
    ) -> None:
        self._store = store
        self._documents: dict[str, Mapping[str, Any]] = {
            kind: store.documents(kind) for kind in KINDS
        }
        self._changes: dict[tuple[DocumentKind, str], Any] = {}
        self._events: list[Event] = []
        self._looks: list[Look] = []
        self._observed = observed or {}
        self._builds = builds or {}
        self._world: World | None = None
        self._before = before
        self._mine: dict[DocumentKind, dict[str, Any]] = {}
        self.now = now

    @property
    def world(self) -> World:
        """Everything with the edits so far; take it anew after an edit."""
        if self._world is None:
            self._world = World(
                environment=self._documents["environment"].get("environment"),
                services=self._documents["service"],
                instances=self._documents["instance"],
                releases=self._documents["release"],
                rollouts=self._documents["rollout"],
                tenures=self._documents["tenure"],
                heals=self._documents["heal"],
                guard=self._documents["guard"].get("guard", GuardState()),
                observed=self._observed,
                builds=self._builds,
            ).after(self._before)
            self._before = self._world
        return self._world

    def put(self, kind: DocumentKind, key: str, document: object) -> None:
        """Write a document unless it already is so."""
        before = self._documents[kind].get(key)
        if before is document or before == document:
            return
        self._edit(kind)[key] = document
        self._changes[kind, key] = document

    def drop(self, kind: DocumentKind, key: str) -> None:
        """Delete a document."""
        if self._edit(kind).pop(key, None) is not None:
            self._changes[kind, key] = None

    def _edit(self, kind: DocumentKind) -> dict[str, Any]:
        """The documents of a kind, copied first: a world that was handed out never changes."""
        if self._world is not None:
            self._world, self._mine = None, {}
        if kind not in self._mine:
            self._documents[kind] = self._mine[kind] = dict(self._documents[kind])
        return self._mine[kind]

    def event(self, kind: str, text: str, **about: Any) -> None:
        """Say what happened; `about` names service, release, instance, cause and data."""
        self._events.append(Event(at=self.now, kind=kind, text=text, **about))

    def add(self, event: Event) -> None:
        """An event as it is."""
        self._events.append(event)

    def document(self, kind: DocumentKind, key: str) -> Any:
        """One document with the edits so far, None if there is none; for kinds that are not part
        of the world."""
        return self._documents[kind].get(key)

    def documents(self, kind: DocumentKind) -> Mapping[str, Any]:
        """All documents of a kind with the edits so far."""
        return self._documents[kind]

    def look(self, look: Look) -> None:
        """Keep a look at the evidence of a rollout."""
        self._looks.append(look)

    def commit(self) -> bool:
        """Write everything, durably. Returns whether a document changed."""
        if not self._changes and not self._events and not self._looks:
            return False
        changes = [Change(kind, key, item) for (kind, key), item in self._changes.items()]
        self._store.commit(changes, self._events, self._looks)
        changed = bool(self._changes)
        self._changes, self._events, self._looks = {}, [], []
        return changed
