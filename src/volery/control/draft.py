"""The world as it is being changed: edits are visible at once and committed together."""

from __future__ import annotations

from typing import Any, Literal

from volery.decide.world import World
from volery.model.ports import BuildStatus, Change, Observation, Store
from volery.model.state import Event

Kind = Literal["environment", "service", "instance", "release", "rollout"]


class Draft:
    """A `World` whose documents can be put and dropped, and the events that say why.

    `commit` writes documents and events in one transaction; before it nothing has happened.
    """

    def __init__(
        self,
        store: Store,
        now: float,
        observed: dict[str, Observation] | None = None,
        builds: dict[str, BuildStatus] | None = None,
    ) -> None:
        self._store = store
        self._documents: dict[str, dict[str, Any]] = {
            kind: dict(store.documents(kind))
            for kind in ("environment", "service", "instance", "release", "rollout")
        }
        self._changes: dict[tuple[Kind, str], Any] = {}
        self._events: list[Event] = []
        self.now = now
        self.world = World(
            environment=self._documents["environment"].get("environment"),
            services=self._documents["service"],
            instances=self._documents["instance"],
            releases=self._documents["release"],
            rollouts=self._documents["rollout"],
            observed=observed or {},
            builds=builds or {},
        )

    def put(self, kind: Kind, key: str, document: object) -> None:
        """Write a document unless it already is so."""
        if self._documents[kind].get(key) == document:
            return
        self._documents[kind][key] = document
        self._changes[kind, key] = document

    def drop(self, kind: Kind, key: str) -> None:
        """Delete a document."""
        if self._documents[kind].pop(key, None) is not None:
            self._changes[kind, key] = None

    def event(self, kind: str, text: str, **about: Any) -> None:
        """Say what happened; `about` names service, release, instance, cause and data."""
        self._events.append(Event(at=self.now, kind=kind, text=text, **about))

    def commit(self) -> bool:
        """Write everything, durably. Returns whether a document changed."""
        if not self._changes and not self._events:
            return False
        changes = [Change(kind, key, item) for (kind, key), item in self._changes.items()]
        self._store.commit(changes, self._events)
        changed = bool(self._changes)
        self._changes, self._events = {}, []
        return changed
