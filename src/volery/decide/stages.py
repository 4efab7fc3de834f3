"""The stages of a canary and of a blue-green switch: how large the new group is and what it gets.

Both are the same machine: the new group is made without requests, grows before its share does, and
each stage counts when every proxy has acknowledged its weights. A canary has a stage for each step
and a last one with everything; blue-green has only that last one. The old group keeps the size for
all requests until the rollout is over, so going back needs no new instance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from volery.model.application import Service
from volery.model.deploy import NOT_COPIED, STAGED, Deploy
from volery.model.state import BASELINE, Rollout, ServiceState, Slot, Track, other

STAGED_BY = ("steps", "mirror", "baseline")
"""What of a service's `deploy` says which stages there are and what is in them."""
RAMP_PARTS = 10


@dataclass(frozen=True)
class Stage:
    """What the new group is and gets: percentages of requests and of copies of requests."""

    weight: float
    count: int
    mirror: float = 0.0


def stages(rollout: Rollout, service: ServiceState) -> tuple[Stage, ...]:
    """All stages of a staged rollout, in order; the last one has all requests. Where nothing can be
    copied the stage of copies gets nothing: their number is the same, whatever is edited."""
    whole = Stage(100.0, service.scale)
    if rollout.strategy != "canary":
        return (whole,)
    deploy = service.config.deploy
    steps = [
        Stage(round(100 * share, 4), math.ceil(service.scale * share))
        for share in rollout.shares or deploy.shares
        if share < 1
    ]
    first = steps[0].count if steps else service.scale
    mirror = 0.0 if service.config.protocol in NOT_COPIED else round(100 * deploy.mirror, 4)
    copied = [Stage(0.0, first, mirror)] if deploy.mirror else []
    return (*copied, *steps, whole)


def with_stages_of(config: Service, before: Service) -> Service:
    """The configuration, with the stages of the one before."""
    kept = {name: getattr(before.deploy, name) for name in STAGED_BY}
    return config.model_copy(update={"deploy": config.deploy.model_copy(update=kept)})


def by_stages(rollout: Rollout) -> bool:
    """Whether it takes over from an older release in stages; a first release has nothing beside it
    to be compared with."""
    return rollout.strategy in STAGED and rollout.from_release is not None


def is_last(rollout: Rollout) -> bool:
    """Whether the present stage has all requests."""
    return rollout.step >= rollout.steps


def stage_of(rollout: Rollout, service: ServiceState) -> Stage:
    """The present stage; before the first one, the first."""
    found = stages(rollout, service)
    return found[min(max(rollout.step, 1), len(found)) - 1]


def has_baseline(rollout: Rollout, service: ServiceState) -> bool:
    """Whether a group of the old release, as large and young as the new one, runs beside it."""
    wanted = rollout.strategy == "canary" and service.config.deploy.baseline
    return wanted and not rollout.no_baseline


def grown(rollout: Rollout, service: ServiceState, stage: Stage) -> ServiceState:
    """The service with a new group (and baseline) at least as large as the stage asks for."""
    slots = dict(service.slots)
    new, old = slots[rollout.slot], slots[other(rollout.slot)]
    assert new is not None and old is not None
    slots[rollout.slot] = replace(new, count=max(new.count, stage.count))
    if has_baseline(rollout, service) and not is_last(rollout):
        beside = slots.get(BASELINE) or Slot(old.release, Track.BASELINE, 0, 0)
        count = max(beside.count, stage.count)
        slots[BASELINE] = replace(beside, release=old.release, count=count)
    return replace(service, slots=slots)


def whole(rollout: Rollout, service: ServiceState) -> ServiceState:
    """The service with a new group that could have all requests."""
    new = service.slots[rollout.slot]
    assert new is not None
    slot = replace(new, count=max(new.count, service.scale))
    return replace(service, slots=dict(service.slots) | {rollout.slot: slot})


def weighted(rollout: Rollout, service: ServiceState, stage: Stage, weight: float) -> ServiceState:
    """The service with the new group at this weight; the baseline gets as much as the new group
    while the old one keeps at least as much, and nothing in the last stage."""
    slots = dict(service.slots)
    new, old = slots[rollout.slot], slots[other(rollout.slot)]
    assert new is not None and old is not None
    beside, rest = slots.get(BASELINE), 100.0 - weight
    slots[rollout.slot] = replace(new, weight=weight, mirror=stage.mirror)
    if beside is not None and beside.count > 0:  # one of an earlier rollout may not be gone yet
        share = 0.0 if weight >= 100 else round(min(weight, rest / 2), 4)
        slots[BASELINE] = replace(beside, weight=share)
        rest -= share
    slots[other(rollout.slot)] = replace(old, weight=round(rest, 4))
    return replace(service, slots=slots)


def without_baseline(service: ServiceState) -> ServiceState:
    """The service with its baseline group on its way out."""
    beside = service.slots.get(BASELINE)
    if beside is None or beside.count == 0:
        return service
    gone = replace(beside, count=0, weight=0.0)
    return replace(service, slots=dict(service.slots) | {BASELINE: gone})


def baseline_given_up(rollout: Rollout, service: ServiceState) -> ServiceState:
    """The service with its baseline group on its way out; its requests go to the old group."""
    beside, old = service.slots.get(BASELINE), service.slots[other(rollout.slot)]
    assert beside is not None and old is not None
    larger = replace(old, weight=round(old.weight + beside.weight, 4))
    slots = dict(service.slots) | {other(rollout.slot): larger}
    return without_baseline(replace(service, slots=slots))


def ramp_of(rollout: Rollout, deploy: Deploy) -> float:
    """Seconds in which the share of the present step grows: only that of a canary's first one with
    requests does."""
    first = 2 if deploy.mirror else 1
    return deploy.ramp if rollout.strategy == "canary" and rollout.step == first else 0.0


def wanted_weight(rollout: Rollout, stage: Stage, deploy: Deploy, in_stage: float) -> float:
    """The stage's weight; where it grows, in tenths."""
    ramp = ramp_of(rollout, deploy)
    if in_stage >= ramp:
        return stage.weight
    part = 1 + math.floor(RAMP_PARTS * in_stage / ramp)
    return round(stage.weight * min(part, RAMP_PARTS) / RAMP_PARTS, 4)
