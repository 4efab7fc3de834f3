"""Says in the ledger when an edge becomes unavailable and when it has recovered.

Looks at every new sample of the data plane, at most once a second. What is unavailable is a
document, so that it is said once, whoever dies in between; doubts are only in memory.
"""

from __future__ import annotations

from operator import attrgetter

from volery.control.draft import Draft
from volery.decide.by_role import owner_of
from volery.decide.edges import USERS, EdgeState, away, by_caller, looked, told_apart
from volery.decide.evidence import counted
from volery.model.evidence import Counters, Sample
from volery.model.ports import SYNTHETIC_CALLER, TrafficConfig

LOOK_SECONDS = 1.0


class EdgeWatch:
    """What is known of every edge."""

    def __init__(self) -> None:
        self._before = Sample()
        self._doubted: dict[str, EdgeState] = {}

    def look(self, draft: Draft, config: TrafficConfig, sample: Sample) -> None:
        """Take in a new sample; nothing happens without one."""
        if sample.number == self._before.number or sample.at < self._before.at + LOOK_SECONDS:
            return
        seen = by_caller(counted(self._before, sample, attrgetter("edges")))
        self._before = sample
        serving = {
            name
            for name, service in config.services.items()
            if any(
                not item.draining for group in service.slots.values() for item in group.endpoints
            )
        }
        gone = away(draft.world, serving)
        edges = self._edges(config)
        self._forget(draft, edges)
        for caller, need in sorted(edges):
            self._look_at(draft, caller, need, seen.get((caller, need)), need in gone)

    def _forget(self, draft: Draft, edges: set[tuple[str, str]]) -> None:
        """Drop what is known of edges that are gone: one that comes back is another one."""
        keys = {_key(*edge) for edge in edges}
        self._doubted = {key: seen for key, seen in self._doubted.items() if key in keys}
        for key in draft.documents("edge").keys() - keys:
            draft.drop("edge", key)

    def _edges(self, config: TrafficConfig) -> set[tuple[str, str]]:
        routes = config.gateway.routes if config.gateway else ()
        users = {(USERS, route.service) for route in routes}
        callers = {
            (told_apart(edge.caller), edge.need)
            for edge in config.edges
            if edge.caller != SYNTHETIC_CALLER
        }
        return users | callers

    def _look_at(
        self, draft: Draft, caller: str, need: str, seen: Counters | None, is_away: bool
    ) -> None:
        key = _key(caller, need)
        kept = draft.document("edge", key) or EdgeState(caller, need)
        before = self._doubted.get(key, kept)
        after = looked(before, seen, is_away)
        self._doubted[key] = after
        if after.why and not before.why:
            draft.put("edge", key, after)
            self._say(draft, "edge.unavailable", after, after.why)
        elif before.why and not after.why:
            draft.drop("edge", key)
            self._say(draft, "edge.recovered", after, before.why)

    def _say(self, draft: Draft, kind: str, edge: EdgeState, why: str) -> None:
        what = f"is unavailable: {why}" if edge.why else "answers again"
        draft.event(
            kind,
            f"for {edge.caller}, {edge.need} {what}",
            service=owner_of(edge.need),
            cause=why,
            data={"caller": edge.caller, "need": edge.need, "why": why},
        )


def _key(caller: str, need: str) -> str:
    return f"{caller}~{need}"
