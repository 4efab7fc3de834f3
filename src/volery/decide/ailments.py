"""What is wrong with the instances of a service now.

Of each instance only the gravest ailment is told. While a need of the service is down its callers
are excused from everything they may suffer for want of it: they are to recover by themselves.
Nothing here says what to do; that is `decide.healing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from volery.decide.backoff import share
from volery.decide.world import World
from volery.model.healing import Ailment, Kind
from volery.model.ports import Observation
from volery.model.state import Instance, ServiceState, SlotName
from volery.model.units import format_duration

GRAVITY: tuple[Kind, ...] = (
    *("orphaned", "hung", "not_alive", "unready", "errors", "slow", "leaking", "old"),
)
"""The gravest first: the order in which they are mended."""
EXCUSED: frozenset[Kind] = frozenset({"hung", "not_alive", "unready", "errors", "slow", "old"})
"""What may come from a need that is down, or would make things worse meanwhile."""
SPREAD = 0.1
"""Instances of the same age reach `max_age` earlier by up to this share of it, each by another."""


@dataclass(frozen=True)
class Signs:
    """What is known of a service's instances besides the documents and this look.

    `unready_for` says for how many seconds one has not been ready; `comparisons` and `leaks` are
    ailments by instance; `excuse` is why nothing that a need may cause is held against them.
    """

    now: float
    unready_for: Callable[[str], float]
    comparisons: Mapping[str, Ailment] = field(default_factory=dict)
    leaks: Mapping[str, Ailment] = field(default_factory=dict)
    excuse: str = ""
    passed_over: SlotName | None = None
    """The group of a rollout under way: that judges it itself."""


def ailments(world: World, service: ServiceState, signs: Signs) -> list[Ailment]:
    """Every ailment of the instances that should run and are not being replaced, gravest first."""
    found = []
    for item in world.instances_of(service.name):
        if item.intent != "run" or item.condemned or item.slot == signs.passed_over:
            continue
        seen = world.observed.get(item.id)
        worst = _worst(world, service, item, seen, signs) if seen else None
        if worst is not None:
            found.append(worst)
    return sorted(found, key=lambda ailment: (GRAVITY.index(ailment.kind), ailment.instance))


def _worst(
    world: World, service: ServiceState, item: Instance, seen: Observation, signs: Signs
) -> Ailment | None:
    if seen.state in ("exited", "stopping"):
        return None  # the group sees to it
    if seen.unkept:
        return Ailment(item.id, "orphaned", seen.detail or "its shim died")
    if seen.volume:
        return None  # its successor would get the same volume
    leak = signs.leaks.get(item.id)
    if signs.excuse:
        return leak
    return _probed(world, item, seen, signs) or _compared(service, item, signs, leak)


def _probed(world: World, item: Instance, seen: Observation, signs: Signs) -> Ailment | None:
    health = world.releases[item.release].spec.health
    if seen.hung:
        text = f"{health.failures} probes in a row got no answer: {seen.detail or seen.suspect}"
        return Ailment(item.id, "hung", text.removesuffix(": "), {"probes": health.failures})
    if not seen.alive:
        return Ailment(item.id, "not_alive", seen.detail or "liveness probe failed")
    if seen.state not in ("starting", "unready"):
        return None
    limit = health.startup if seen.state == "starting" else health.unready
    waited = signs.unready_for(item.id)
    if waited < limit:
        return None
    text = f"not ready for {format_duration(limit)}: {seen.detail or seen.state}"
    return Ailment(item.id, "unready", text, {"seconds": round(waited, 3)})


def _compared(
    service: ServiceState, item: Instance, signs: Signs, leak: Ailment | None
) -> Ailment | None:
    found = signs.comparisons.get(item.id) or leak
    limit = service.config.max_age
    if found is not None or limit is None or (service.config.state and service.config.state.role):
        return found
    age = signs.now - item.created_at
    due = limit * (1 - SPREAD * share(item.id))
    if age < due:
        return None
    text = f"{format_duration(round(age))} old; max_age is {format_duration(limit)}"
    return Ailment(item.id, "old", text, {"seconds": round(age, 3)})
