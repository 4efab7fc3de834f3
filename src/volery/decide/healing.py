"""What is done about an ailment, and whether it helped.

A heal condemns one instance, so that its group replaces it (add before remove); what serves users
badly is taken out of rotation at once, while the others can do without it. Then the service is
watched: the same ailment in the successor or in another instance says that it did not help, and the
next attempt waits, each time longer. While a brake is on nothing is replaced, and what serves users
badly is taken out of rotation all the same. An instance that ended is started again by its shim;
there the heal only watches. Only one heal of a service acts at a time, unless nothing of it serves
anyway.

`step` moves an open heal, `choose` says what to mend next. No engine and no data plane is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from volery.decide import backoff
from volery.decide.dependence import serves
from volery.decide.outliers import warm_after
from volery.decide.upkeep import is_leaving
from volery.decide.world import World, number_of
from volery.model.deploy import STAGED
from volery.model.healing import IN_WORDS, Ailment, Heal, Kind, Verdict
from volery.model.state import Instance, Phase, ServiceState
from volery.model.units import format_duration

WATCH_SECONDS = 30.0
"""For so long it must not be seen again; what is slow, once its successor should be warm."""
PATIENCE_SECONDS = 60.0
"""What a replacement may take besides start-up, drain and grace."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30.0, 1800.0
LONGEST_WAIT_DOWN_SECONDS = 10.0
"""The longest wait where nothing serves and so nothing can be lost."""
KEPT = 20
"""Ended heals of a service that are remembered."""
WITHHELD: frozenset[Kind] = frozenset({"hung", "not_alive", "errors", "slow", "orphaned"})
"""What users would feel: such an instance gets no more requests."""
COMPARED: frozenset[Kind] = frozenset({"errors", "slow"})
"""What is seen against siblings: it waits while a rollout replaces them all anyway."""
MOVING = (Phase.SHIFTING, Phase.PROMOTING, Phase.ROLLING_BACK)
"""The phases in which a rollout that is not in stages replaces the instances that serve."""


@dataclass(frozen=True)
class Choice:
    """The ailment to mend now, if any; else why none of them is, for people."""

    ailment: Ailment | None = None
    waits: str = ""


def next_id(world: World, service: str) -> str:
    """`catalog-h3`."""
    known = world.heals_of(service)
    last = int(known[-1].id.rpartition("-h")[2]) if known else 0
    return f"{service}-h{last + 1}"


# --- what next ------------------------------------------------------------------------------------


def choose(world: World, service: ServiceState, found: Sequence[Ailment], now: float) -> Choice:
    """What to mend now of what was found."""
    if not found:
        return Choice()
    heals = world.heals_of(service.name)
    acting = [heal for heal in heals if heal.phase == "acting" and heal.kind != "exited"]
    serving = serves(world, service)
    if acting and serving:
        return Choice()
    waits = ""
    for ailment in found:
        if not _may_now(world, service, ailment.kind):
            if ailment.kind in COMPARED:
                waits = f"{_moving(world, service)} replaces its instances"
            continue
        failed = _wait_for(heals, ailment.kind, now, serving)
        if failed is not None:
            said = f"{failed.instance} ({IN_WORDS[failed.kind]}): the next attempt waits"
            return Choice(waits=f"{failed.id} did not help {said}")
        return Choice(ailment)
    return Choice(waits=waits)


def _may_now(world: World, service: ServiceState, kind: Kind) -> bool:
    if kind in COMPARED:
        return not _moving(world, service)
    if kind != "old":
        return True
    if world.rollout_of(service.name) is not None:
        return False
    calm = all(heal.ended for heal in world.heals.values())
    there = world.instances_of(service.name, service.active)
    ready = sum(item.intent == "run" and world.ready(item) for item in there)
    return calm and ready >= service.scale


def _moving(world: World, service: ServiceState) -> str:
    """The rollout that replaces the instances that serve just now, if there is one. One in stages
    leaves them alone until it is over, and what is paused may be so for days."""
    rollout = world.rollout_of(service.name)
    if rollout is None or rollout.strategy in STAGED or rollout.phase not in MOVING:
        return ""
    return rollout.id


def _wait_for(heals: Sequence[Heal], kind: Kind, now: float, serving: bool) -> Heal | None:
    """The failed attempt after which one must still wait; a wall clock that was set back does not
    count."""
    same = [heal for heal in heals if heal.kind == kind and heal.ended and heal.verdict != "moot"]
    failures = 0
    for heal in reversed(same):
        if heal.verdict == "helped":
            break
        failures += 1
    if not failures:
        return None
    cap = LONGEST_WAIT_SECONDS if serving else LONGEST_WAIT_DOWN_SECONDS
    last = same[-1]
    wait = backoff.wait(f"{last.service} {kind}", failures + 1, FIRST_WAIT_SECONDS, cap)
    left = wait - (now - (last.finished_at or now))
    return last if 0 < left <= wait else None


# --- beginning ------------------------------------------------------------------------------------


def begin(
    world: World, service: ServiceState, ailment: Ailment, found: Sequence[Ailment], now: float
) -> tuple[Heal, Instance]:
    """The record of a new heal, and the instance as it should be from now on."""
    item = world.instances[ailment.instance]
    heal = Heal(
        id=next_id(world, service.name),
        service=service.name,
        kind=ailment.kind,
        instance=item.id,
        slot=item.slot,
        release=item.release,
        text=ailment.text,
        created_at=now,
        since=now,
        evidence=dict(ailment.evidence),
        also=tuple(
            other.instance
            for other in found
            if other.kind == ailment.kind and other.instance != item.id
        ),
        beside=tuple(one.id for one in world.instances_of(service.name, item.slot)),
    )
    if ailment.kind == "exited":
        return replace(heal, done="its shim starts it again"), item
    withheld = ailment.kind in WITHHELD
    done = "taken out of rotation and replaced" if withheld else "replaced"
    marked = replace(
        item,
        condemned=f"{IN_WORDS[ailment.kind]}: {ailment.text}",
        heal=heal.id,
        withheld=withheld,
        hung=ailment.kind == "hung",
    )
    return replace(heal, done=done), marked


# --- while a brake is on --------------------------------------------------------------------------


def to_keep_out(
    world: World, service: ServiceState, found: Sequence[Ailment]
) -> tuple[Ailment, ...]:
    """Those that users feel, and that get requests. One with a role serves on: who should get its
    requests is settled by replacing it."""
    return tuple(
        ailment
        for ailment in found
        if ailment.kind in WITHHELD
        and _may_now(world, service, ailment.kind)
        and not world.instances[ailment.instance].withheld
        and not world.has_roles(world.instances[ailment.instance])
    )


def kept_out(world: World, service: ServiceState) -> tuple[Instance, ...]:
    """The instances that get no requests and are not being replaced."""
    there = world.instances_of(service.name)
    return tuple(item for item in there if item.withheld and not item.condemned)


# --- going on -------------------------------------------------------------------------------------


def step(
    heal: Heal,
    world: World,
    service: ServiceState | None,
    found: Sequence[Ailment],
    now: float,
    in_phase: float,
) -> Heal:
    """The heal as it should be now. `in_phase` is how many seconds it has been in its phase."""
    if heal.ended:
        return heal
    slot = service.slots.get(heal.slot) if service else None
    if service is None or is_leaving(world, service):
        return end(heal, "moot", "the service was taken down", now)
    if slot is None or slot.release != heal.release or slot.count == 0:
        return end(heal, "moot", "another release has taken its place", now)
    if heal.phase == "acting":
        return _acted(heal, world, service, now, in_phase)
    again = _again(heal, found)
    if again is not None:
        return end(heal, "not_helped", f"{again.instance}: {again.text}", now)
    watched = WATCH_SECONDS
    if heal.kind == "slow":
        watched += warm_after(service.config.deploy)
    if in_phase < watched:
        return heal
    calm = format_duration(watched)
    return end(heal, "helped", f"not seen again in {heal.service} for {calm}", now)


def end(heal: Heal, verdict: Verdict, why: str, now: float) -> Heal:
    """The heal with its verdict."""
    return replace(heal, phase="ended", since=now, verdict=verdict, why=why, finished_at=now)


def _acted(heal: Heal, world: World, service: ServiceState, now: float, in_phase: float) -> Heal:
    item = world.instances.get(heal.instance)
    there = world.instances_of(service.name, heal.slot)
    serving = [one for one in there if one.intent == "run" and world.ready(one)]
    slot = service.slots[heal.slot]
    assert slot is not None
    if heal.kind == "exited":
        if item is not None and world.ready(item):
            return replace(heal, phase="watching", since=now, successor=item.id)
    elif item is None or item.intent == "stop":
        fresh = [one for one in serving if one.id not in heal.beside]
        if fresh or len(serving) >= slot.count:
            successor = max(fresh or serving, key=lambda one: number_of(one.id))
            return replace(heal, phase="watching", since=now, successor=successor.id)
    elif item.heal != heal.id and _is_up(world, item):  # its successor, which has its name
        return replace(heal, phase="watching", since=now, successor=item.id)
    spec = world.releases[heal.release].spec
    limit = spec.health.startup + spec.stop.drain + spec.stop.grace + PATIENCE_SECONDS
    if in_phase < limit:
        return heal
    late = f"nothing was ready in its place within {format_duration(limit)}"
    return end(heal, "not_helped", late, now)


def _is_up(world: World, item: Instance) -> bool:
    """Whether it is ready by its probes: a replica may have to get in sync for as long as it
    takes."""
    seen = world.observed.get(item.id)
    return item.intent == "run" and seen is not None and seen.state == "ready"


def _again(heal: Heal, found: Sequence[Ailment]) -> Ailment | None:
    """The same ailment in one that did not have it when the heal began."""
    for ailment in found:
        if ailment.kind == heal.kind and ailment.instance not in heal.also and heal.kind != "old":
            return ailment
    return None


def forgotten(world: World, service: str) -> list[str]:
    """Ended heals that need not be remembered any more."""
    ended = [heal.id for heal in world.heals_of(service) if heal.ended]
    return ended[: max(0, len(ended) - KEPT)]
