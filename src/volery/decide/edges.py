"""Whether an edge works: what its callers get now -> unavailable, recovered, or no opinion. Pure.

The breaker itself is the data plane's; this only notices it, from the counters, so that people hear
of it. An edge is *unavailable* when its need has no instance that takes requests, or when at least
half of its calls fail; it has *recovered* when less than a tenth do. In between, and with hardly
any calls, nothing is concluded, and an opinion takes several looks in a row: no flapping.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from volery.decide.world import World
from volery.model.evidence import Counters

LEAST_CALLS = 5
FAILING, WORKING = 0.5, 0.1
LOOKS = 2
USERS = "gateway"
"""Who calls where users come in, as samples name it."""


@dataclass(frozen=True)
class EdgeState:
    """One caller's edge to one need. `why` it is unavailable, "" while it works; `doubts`: how many
    looks in a row said otherwise."""

    caller: str
    need: str
    why: str = ""
    doubts: int = 0


def told_apart(service: str) -> str:
    """A service as a caller: one that is called like the gateway is not where users come in."""
    return f"service {service}" if service == USERS else service


def by_caller(edges: Mapping[str, Counters]) -> dict[tuple[str, str], Counters]:
    """Counters by caller and need, the groups of a caller added up; `edges` as in a sample."""
    found: dict[tuple[str, str], Counters] = {}
    for name, counters in edges.items():
        caller, *slot, need = name.split("~")
        caller = told_apart(caller) if slot else caller
        before = found.get((caller, need), Counters())
        found[caller, need] = Counters(
            before.requests + counters.requests, before.failures + counters.failures
        )
    return found


def away(world: World, serving: Iterable[str]) -> frozenset[str]:
    """The services that were there and of which no instance takes requests now."""
    proven = {item.service for item in world.instances.values() if item.proven}
    running = world.environment is not None and world.environment.running
    return frozenset(proven - set(serving)) if running else frozenset()


def looked(state: EdgeState, seen: Counters | None, is_away: bool) -> EdgeState:
    """The state after one more look at what was called since the last."""
    bad = _why(state.need, seen or Counters(), is_away)
    if bad is None or bool(bad) == bool(state.why):
        return replace(state, doubts=0) if bad is not None else state
    if state.doubts + 1 < LOOKS:
        return replace(state, doubts=state.doubts + 1)
    return replace(state, why=bad, doubts=0)


def _why(need: str, seen: Counters, is_away: bool) -> str | None:
    """Why it does not work, "" if it does, None without an opinion."""
    if is_away:
        return f"no instance of {need} takes requests"
    if seen.requests < LEAST_CALLS:
        return None
    share = seen.failures / seen.requests
    if share >= FAILING:
        return f"{share:.0%} of {seen.requests} calls failed"
    return "" if share < WORKING else None
