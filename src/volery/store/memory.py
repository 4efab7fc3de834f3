"""A store that forgets: the same behaviour as `SqliteStore`, nothing on disk, nothing serialised.

For the deterministic simulation and for tests. The conformance suite runs against both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from volery.model.ports import Change
from volery.model.state import Event, Look
from volery.store.documents import KINDS, apply, sealed, without_rollout
from volery.store.retention import EVENTS_KEPT, expired


class MemoryStore:
    """Documents and events in memory, with the semantics of the `Store` port."""

    def __init__(self, *, keep: int = EVENTS_KEPT) -> None:
        self._documents = sealed({kind: {} for kind in KINDS})
        self._events: list[Event] = []
        self._looks: dict[str, dict[int, Look]] = {}
        self._last = 0
        self._keep = keep

    def commit(
        self, changes: Sequence[Change], events: Sequence[Event], looks: Sequence[Look] = ()
    ) -> Sequence[Event]:
        """All or nothing; events come back with their sequence numbers."""
        numbered = tuple(replace(event, seq=self._last + n) for n, event in enumerate(events, 1))
        self._documents = apply(self._documents, changes)
        for rollout in without_rollout(changes):
            self._looks.pop(rollout, None)
        for look in looks:
            self._looks.setdefault(look.rollout, {})[look.number] = look
        self._events += numbered
        self._last += len(numbered)
        gone = expired(self._first, self._last, self._keep)
        del self._events[: max(0, gone - self._first + 1)]
        return numbered

    def documents(self, kind: str) -> Mapping[str, object]:
        """Every document of a kind, by key: a snapshot that later commits do not change."""
        return self._documents[kind]

    def events(
        self, after: int = 0, limit: int = 1000, service: str | None = None
    ) -> Sequence[Event]:
        """Events with a sequence number above `after`, oldest first."""
        later = self._events[max(0, after - self._first + 1) :]
        mine = [event for event in later if service is None or event.service == service]
        return tuple(mine[: max(0, limit)])

    def latest(
        self, limit: int = 1000, before: int | None = None, service: str | None = None
    ) -> Sequence[Event]:
        """The newest events, or those with the highest sequence numbers below `before`; oldest
        first."""
        earlier = self._events if before is None else self._events[: max(0, before - self._first)]
        mine = [event for event in earlier if service is None or event.service == service]
        return tuple(mine[max(0, len(mine) - max(0, limit)) :])

    def looks(self, rollout: str) -> Sequence[Look]:
        """Every look at the evidence of a rollout, in order."""
        found = self._looks.get(rollout, {})
        return tuple(found[number] for number in sorted(found))

    def last_seq(self) -> int:
        """The sequence number of the newest event ever written; 0 if there was none."""
        return self._last

    @property
    def _first(self) -> int:
        return self._events[0].seq if self._events else self._last + 1
