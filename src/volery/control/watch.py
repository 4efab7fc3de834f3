"""What a controller remembers between two looks, none of it needed to be correct after a crash.

Ages are measured on the monotonic clock from when this control plane first saw something, so that
a jump of the wall clock cuts no drain short; after a restart they begin again, which only waits
longer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from volery.model.ports import Edge, TrafficConfig, TrafficStatus
from volery.model.state import Instance


class Ages:
    """How long something has been so: `of(key)` is 0 the first time it is asked."""

    def __init__(self) -> None:
        self._first: dict[Hashable, float] = {}
        self._asked: set[Hashable] = set()

    def of(self, key: Hashable, monotonic: float) -> float:
        """Seconds since this key was first asked for without a gap."""
        self._asked.add(key)
        return monotonic - self._first.setdefault(key, monotonic)

    def sweep(self) -> None:
        """Forget what was not asked for since the last sweep."""
        self._first = {key: at for key, at in self._first.items() if key in self._asked}
        self._asked.clear()


class Generations:
    """Numbers the configurations sent to the data plane and knows which wish is in force."""

    def __init__(self) -> None:
        self.current = 0
        self.applied: TrafficConfig | None = None
        self._edges: dict[Edge, int] = {}
        self._by_caller: dict[str, list[Edge]] = {}
        self._draining: dict[str, int] = {}

    def send(self, config: TrafficConfig, instances: Iterable[Instance]) -> bool:
        """Take note of what is sent now; true if it differs from what was sent before."""
        changed = config != self.applied
        if changed:
            self.current += 1
            self.applied = config
            self._note_edges(config.edges)
        self._draining = {
            item.id: self._draining.get(item.id, self.current)
            for item in instances
            if item.intent == "drain"
        }
        return changed

    def in_force(self, config: TrafficConfig, status: TrafficStatus) -> bool:
        """Whether every proxy has accepted exactly this configuration."""
        return config == self.applied and status.acknowledged >= self.current > 0

    def edges_in_force(self, caller: str, status: TrafficStatus) -> bool:
        """Whether every proxy listens on all edges of this service; not before anything is sent."""
        mine = self._by_caller.get(caller, ())
        return self.applied is not None and all(
            self._edges[edge] <= status.acknowledged for edge in mine
        )

    def _note_edges(self, edges: Iterable[Edge]) -> None:
        before, self._edges, self._by_caller = self._edges, {}, {}
        for edge in edges:
            self._edges[edge] = before.get(edge, self.current)
            self._by_caller.setdefault(edge.caller, []).append(edge)

    def withdrawn(self, instance: str, status: TrafficStatus) -> bool:
        """Whether every proxy has heard that an instance gets nothing new."""
        since = self._draining.get(instance)
        return since is not None and status.acknowledged >= since

    def drained(self, instance: str, status: TrafficStatus) -> bool:
        """Whether an instance gets no request any more and none is in flight."""
        since = self._draining.get(instance)
        return (
            since is not None
            and status.acknowledged >= since
            and status.sampled >= since
            and status.in_flight.get(instance, 0) == 0
        )
