"""Whether requests that came through the canary of a caller go to a service's own canary.

They come on top of its share, and as many as the caller's canary gets. So it takes them only where
that was wanted, in one group, or where its own share is as large: else the canary of somebody else
would decide how many users meet this one. While copies are all it gets, its answers reach nobody.
"""

from __future__ import annotations

from volery.decide.order import called
from volery.decide.world import World
from volery.model.state import ServiceState, SlotName, Track


def canary_of(service: ServiceState) -> SlotName | None:
    """The slot of a canary that has been given requests, or copies of them."""
    for name, slot in service.slots.items():
        if slot and slot.track is Track.CANARY and (slot.weight or slot.mirror):
            return name
    return None


def are_welcome(world: World, service: ServiceState) -> bool:
    """Whether the canary of a service takes what came through the canaries of its callers."""
    own = _shares(service)[0]
    return own > 0 and all(
        max(_shares(caller)) <= own or _group(world, caller) == _group(world, service)
        for caller in _callers(world, service)
    )


def steered(world: World, service: ServiceState) -> bool:
    """Whether requests come to the canary of a service that were not sent there by chance."""
    if service.config.deploy.override is not None:
        return True
    return bool(_callers(world, service)) and are_welcome(world, service)


def _callers(world: World, service: ServiceState) -> list[ServiceState]:
    """The services with a canary that call this one, also through others."""
    return [
        found
        for name, found in world.services.items()
        if name != service.name and canary_of(found) and service.name in called(name, world.as_run)
    ]


def _shares(service: ServiceState) -> tuple[float, float]:
    """Which percentages of requests and of copies a canary gets."""
    name = canary_of(service)
    slot = service.slots[name] if name else None
    return (slot.weight, slot.mirror) if slot else (0.0, 0.0)


def _group(world: World, service: ServiceState) -> str | None:
    """The group of services that are released together with this one."""
    rollout = world.rollout_of(service.name)
    return rollout.group if rollout else None
