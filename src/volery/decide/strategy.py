"""How a new group takes over from an old one, and how it turns round.

Every strategy *begins* here; rolling and recreate *advance* here too, canary and blue-green in
`decide.staged`. Add before remove: rolling never has fewer ready instances than `scale -
unavailable`, and never more in all than `scale + surge`; recreate is for what cannot run twice and
accepts the gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from volery.decide.phases import is_return
from volery.decide.stages import grown, stages, without_baseline
from volery.model.deploy import STAGED
from volery.model.state import Rollout, ServiceState, Slot, SlotName, Track, other

_TRACKS = {"blue-green": Track.GREEN, "canary": Track.CANARY}


@dataclass(frozen=True)
class Group:
    """What is there of one group now."""

    ready: int = 0
    """Instances that should run and are ready."""
    existing: int = 0
    """Instances of which anything is left, also those on their way out."""
    failure: str = ""
    """Why the group cannot become what it should; only looked at for a new group."""
    tail: tuple[str, ...] = ()
    blamed: bool = True
    """Whether the failure is the release's own: what somebody killed from outside is not."""
    lacking: str = ""
    """Why a group that comes back is not whole yet, though of it others serve or may."""


@dataclass(frozen=True)
class View:
    """What a strategy may know. Seconds are those of a steady clock; `in_phase` counts from the
    beginning of the phase."""

    now: float
    old: Group
    new: Group
    settled: bool
    beside: Group = Group()
    """A canary's baseline."""
    in_phase: float = 0.0
    unserved: float = 0.0
    """Seconds since anything of the old release was ready; 0 while something is, or a need is
    lacked."""
    rejected: str | None = None
    surge: int = 1
    unavailable: int = 0


@dataclass(frozen=True)
class Moved:
    """What a strategy decided: the service's slots, and how far the rollout is. `begun` is false
    while the slot is still being emptied of an older release's warm group."""

    service: ServiceState
    weight: float = 0
    step: int = 0
    steps: int = 1
    shifting: bool = False
    complete: bool = False
    begun: bool = True


def is_alone(rollout: Rollout) -> bool:
    """Whether a staged rollout has nothing beside it to be compared with: nothing ran before."""
    return rollout.strategy in STAGED and rollout.from_release is None


def begin(rollout: Rollout, service: ServiceState, view: View) -> Moved:
    """Make the new group, without requests while an old one serves. Whatever was kept warm in its
    place is not any more."""
    service = replace(service, warm_until=None)
    there = service.slots[rollout.slot]
    if there is not None and there.release != rollout.to_release:
        if view.new.existing > 0:
            emptied = replace(there, count=0, weight=0)
            return Moved(_put(service, rollout.slot, emptied), begun=False)
        there = None
    old = service.slots[other(rollout.slot)]
    if old is None or is_alone(rollout):
        group = Slot(rollout.to_release, Track.STABLE, service.scale, 100)
        service = _put(service, rollout.slot, group)
        if old is not None:
            service = _put(service, other(rollout.slot), replace(old, weight=0))
        return Moved(service)
    if rollout.strategy == "rolling":
        count = min(view.surge, service.scale)
        steps = service.scale
    elif rollout.strategy == "recreate":
        count, steps = 0, 1
    else:
        plan = stages(rollout, service)
        count, steps = plan[0].count, len(plan)
    track = _TRACKS.get(rollout.strategy, Track.STABLE)
    group = Slot(rollout.to_release, track, max(count, there.count if there else 0), 0)
    service = _put(service, rollout.slot, group)
    if rollout.strategy in STAGED:
        service = grown(rollout, service, plan[0])
    return Moved(service, steps=steps)


def advance(rollout: Rollout, service: ServiceState, view: View) -> Moved:
    """The next move, or the same slots again while something is awaited."""
    new = service.slots[rollout.slot]
    old = service.slots[other(rollout.slot)]
    assert new is not None
    if old is None or is_alone(rollout):
        larger = replace(new, count=max(new.count, service.scale))  # than when it began
        service = _put(service, rollout.slot, larger)
        return Moved(service, weight=100, complete=is_there(rollout, service, view))
    if rollout.strategy == "rolling":
        return _rolling(rollout, service, view, old, new)
    assert rollout.strategy == "recreate", rollout.strategy
    return _recreate(rollout, service, view, old, new)


def is_there(rollout: Rollout, service: ServiceState, view: View) -> bool:
    """Whether the new group serves as a whole; what comes back late, with what there is of it."""
    enough = min(service.scale, 1 if is_late(rollout, service, view) else service.scale)
    return view.settled and view.new.ready >= enough


def is_late(rollout: Rollout, service: ServiceState, view: View) -> bool:
    """Whether what comes back has been awaited for longer than a start takes: what still lacks of
    it follows when it can."""
    return is_return(rollout) and view.in_phase >= service.config.health.startup


def _rolling(rollout: Rollout, service: ServiceState, view: View, old: Slot, new: Slot) -> Moved:
    scale = service.scale
    here = Moved(service, new.weight, new.count, scale, shifting=new.weight > 0)
    if is_return(rollout) and rollout.passed and view.settled and view.new.ready > 0:
        return _as_it_is(rollout, service, old, new)
    awaited = min(1, new.count) if is_return(rollout) else new.count
    if not view.settled or view.new.ready < awaited:
        return here
    if new.count >= scale and old.count == 0:
        return replace(here, complete=view.old.existing == 0)
    room = scale + view.surge - (new.count + view.old.existing)
    grown = new.count + max(0, min(room, scale - new.count))
    # What should go still waits for the guard: it serves on, and nothing more is taken meanwhile.
    pending = max(0, view.old.ready - old.count)
    spare = 0 if pending else view.new.ready + view.old.ready - (scale - view.unavailable)
    unready = max(0, old.count - view.old.ready)
    shrunk = old.count - min(old.count, unready + max(0, spare))
    # Only what is more than enough leaves for certain; what else should go has its share meanwhile.
    staying = shrunk if view.new.ready + shrunk >= scale else max(shrunk, view.old.ready)
    serving = view.new.ready + staying
    weight = round(100 * view.new.ready / serving) if serving else 100
    if (grown, shrunk, weight) == (new.count, old.count, new.weight):
        return here
    service = _put(service, rollout.slot, replace(new, count=grown, weight=weight))
    service = _put(service, other(rollout.slot), replace(old, count=shrunk, weight=100 - weight))
    return Moved(service, weight, view.new.ready, scale, shifting=weight > 0 or shrunk < old.count)


def _as_it_is(rollout: Rollout, service: ServiceState, old: Slot, new: Slot) -> Moved:
    """What there is of one that comes back serves; what it lacks follows when it can."""
    whole = replace(new, count=service.scale, weight=100)
    service = _put(service, rollout.slot, whole)
    service = _put(service, other(rollout.slot), replace(old, count=0, weight=0))
    return Moved(service, complete=True)


def _recreate(rollout: Rollout, service: ServiceState, view: View, old: Slot, new: Slot) -> Moved:
    if old.count > 0:
        return Moved(_put(service, other(rollout.slot), replace(old, count=0)))
    if view.old.existing > 0:
        return Moved(service)
    if new.count < service.scale:
        service = _put(service, rollout.slot, replace(new, count=service.scale, weight=100))
        service = _put(service, other(rollout.slot), replace(old, weight=0))
        return Moved(service, 100, shifting=True)
    return Moved(service, 100, 1, shifting=True, complete=is_there(rollout, service, view))


def turn_round(rollout: Rollout, service: ServiceState) -> ServiceState:
    """All requests to the old group, and the old group as large as it was (unless recreate)."""
    new, old = service.slots[rollout.slot], service.slots[other(rollout.slot)]
    if new is not None and old is not None:
        service = _put(service, rollout.slot, replace(new, weight=0, mirror=0))
    if old is not None:
        count = old.count if rollout.strategy == "recreate" else service.scale
        back = replace(old, weight=100, count=count, track=Track.STABLE)
        service = _put(service, other(rollout.slot), back)
    return without_baseline(service)


def may_serve_on(rollout: Rollout, service: ServiceState) -> bool:
    """Whether what there is of the new group may serve while the old one gets its size back: where
    it took the place of old instances, and is not at fault."""
    took_over = rollout.strategy == "rolling" and service.config.state is None
    beside = service.slots[other(rollout.slot)] is not None
    return took_over and beside and rollout.verdict != "abort"


def give_back(rollout: Rollout, service: ServiceState, view: View) -> ServiceState:
    """The old group as large as it was; until it is, both have their share by what is ready."""
    new, old = service.slots[rollout.slot], service.slots[other(rollout.slot)]
    assert new is not None and old is not None
    weight = round(100 * view.new.ready / (view.new.ready + view.old.ready))
    service = _put(service, rollout.slot, replace(new, weight=weight))
    back = replace(old, weight=100 - weight, count=service.scale)
    return _put(service, other(rollout.slot), back)


def may_remove_new(rollout: Rollout, service: ServiceState, view: View) -> bool:
    """Whether the new group can go without taking away what users still need."""
    alone = service.slots[other(rollout.slot)] is None
    unneeded = alone or view.old.ready > 0 or view.new.ready == 0
    return rollout.strategy == "recreate" or (view.settled and unneeded)


def restore_old(rollout: Rollout, service: ServiceState) -> ServiceState:
    """After recreate the old group comes back only when the new one is gone."""
    old = service.slots[other(rollout.slot)]
    if old is None or old.count == service.scale:
        return service
    return _put(service, other(rollout.slot), replace(old, count=service.scale))


def _put(service: ServiceState, slot: SlotName, group: Slot | None) -> ServiceState:
    return replace(service, slots=dict(service.slots) | {slot: group})
