"""Who serves now, how many must, and what would be missing: the arithmetic below the guard.

An instance *serves* while it is ready, should run, and its group gets requests. A service *needs*
as many as its size; its *floor* is what nobody may take it below. A *gap* (no instance ready for a
while) is allowed only where its owner said so or nobody needs the service any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from volery.decide.built import is_built
from volery.decide.upkeep import is_leaving
from volery.decide.world import World
from volery.model.application import Service
from volery.model.state import Phase, Rollout, ServiceState, other


@dataclass(frozen=True)
class Capacity:
    """One service: who serves, how many are needed, and how few there may ever be."""

    serving: frozenset[str]
    needed: int
    floor: int

    def missing(self, without: int = 0) -> int:
        """How many of the needed ones do not serve, if so many fewer did."""
        return max(0, self.needed - (len(self.serving) - without))


def capacities(world: World) -> Mapping[str, Capacity]:
    """Of every service."""
    return {name: capacity(world, service) for name, service in world.services.items()}


def capacity(world: World, service: ServiceState) -> Capacity:
    """Of one service."""
    needed = 0 if is_leaving(world, service) else service.scale
    return Capacity(serving(world, service), needed, min(floor(service), needed))


def serving(world: World, service: ServiceState) -> frozenset[str]:
    """The instances that get requests: those of the groups with a weight, or, while none of these
    is ready, of any group (see `decide.routes`)."""
    ready = [
        item
        for item in world.instances_of(service.name)
        if item.intent == "run" and world.ready(item)
    ]
    weighted = {name for name, slot in service.slots.items() if slot and slot.weight > 0}
    chosen = [item for item in ready if item.slot in weighted]
    return frozenset(item.id for item in chosen or ready)


def floor(service: ServiceState) -> int:
    """How many ready instances a service never goes below, by its owner's word; one if silent.

    Where nothing can be added before something is removed, one fewer than its size: otherwise
    nothing could ever be replaced.
    """
    wished = 1 if service.config.floor is None else service.config.floor
    return max(0, min(wished, service.scale - (0 if adds_first(service.config) else 1)))


def adds_first(config: Service) -> bool:
    """Whether a replacement can be there before what it replaces leaves."""
    deploy = config.deploy
    return config.state is None and deploy.strategy != "recreate" and deploy.surge > 0


def may_leave_a_gap(world: World, service: ServiceState) -> bool:
    """Whether this service may be left without a ready instance for a while."""
    if is_leaving(world, service) or service.scale == 0:
        return True
    if service.config.state is not None and service.scale == 1:
        return True
    rollout = world.rollout_of(service.name)
    if rollout is None:
        return service.config.deploy.strategy == "recreate" and service.config.state is not None
    if rollout.strategy == "recreate":
        return True
    return rollout.phase is Phase.ROLLING_BACK and _nothing_to_keep_for(world, service, rollout)


def _nothing_to_keep_for(world: World, service: ServiceState, rollout: Rollout) -> bool:
    """A way back need not wait for the old group: there is none, or somebody wants a newer
    release, which is built and begins only when this way back has ended."""
    newest = world.newest_rollout_of(service.name)
    newer = newest if newest is not None and newest.id != rollout.id else None
    begins = newer is not None and is_built(world.releases[newer.to_release], newer)
    return begins or service.slots[other(rollout.slot)] is None
