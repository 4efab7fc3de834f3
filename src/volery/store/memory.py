"""A store that forgets: the same behaviour as `SqliteStore`, nothing on disk, nothing serialised.

For the deterministic simulation and for tests. The conformance suite runs against both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from volery.model.ports import Change
from volery.model.state import Event
from volery.store.documents import KINDS, apply
from volery.store.retention import EVENTS_KEPT, expired


class MemoryStore:
    """Documents and events in memory, with the semantics of the `Store` port."""

    def __init__(self, *, keep: int = EVENTS_KEPT) -> None:
        self._documents: dict[str, Mapping[str, object]] = {kind: {} for kind in KINDS}
        self._events: list[Event] = []
        self._last = 0
        self._keep = keep

    def commit(self, changes: Sequence[Change], events: Sequence[Event]) -> Sequence[Event]:
        """All or nothing; events come back with their sequence numbers."""
        numbered = tuple(replace(event, seq=self._last + n) for n, event in enumerate(events, 1))
        self._documents = apply(self._documents, changes)
        self._events += numbered
        self._last += len(numbered)
        gone = expired(self._first, self._last, self._keep)
        del self._events[: max(0, gone - self._first + 1)]
        return numbered

    def documents(self, kind: str) -> Mapping[str, object]:
        """Every document of a kind, by key: a snapshot that later commits do not change."""
        return MappingProxyType(self._documents[kind])

    def events(
        self, after: int = 0, limit: int = 1000, service: str | None = None
    ) -> Sequence[Event]:
        """Events with a sequence number above `after`, oldest first."""
        later = self._events[max(0, after - self._first + 1) :]
        mine = [event for event in later if service is None or event.service == service]
        return tuple(mine[: max(0, limit)])

    def last_seq(self) -> int:
        """The sequence number of the newest event ever written; 0 if there was none."""
        return self._last

    @property
    def _first(self) -> int:
        return self._events[0].seq if self._events else self._last + 1
