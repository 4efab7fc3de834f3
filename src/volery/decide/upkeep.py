"""Standing goals of a service that no rollout is needed for: its size, its warm group, its end."""

from __future__ import annotations

from dataclasses import replace

from volery.decide.order import called, callers, waits_for
from volery.decide.world import World
from volery.model.state import ServiceState, Slot, SlotName, other


def upkeep(world: World, service: ServiceState, now: float) -> ServiceState:
    """The slots as they should be while no rollout of this service is under way."""
    if is_leaving(world, service):
        return _emptied(service) if _no_caller_left(world, service) else service
    return _sized(_cooled(service, now))


def is_leaving(world: World, service: ServiceState) -> bool:
    """Whether the environment goes down, or the service was removed from the manifest and nobody
    that stays calls it any more."""
    environment = world.environment
    if environment is None or not environment.running:
        return True
    return service.removing and service.name not in world.staying


def _no_caller_left(world: World, service: ServiceState) -> bool:
    """Stop in reverse order: a need goes when nobody is left who could call it. Of services that
    need each other in a circle (through degradable edges) only those are waited for that started
    after it: else each would wait for the other for ever."""
    configs = world.as_run
    circle = called(service.name, configs)
    return not any(
        world.instances_of(caller)
        for caller in callers(service.name, configs)
        if caller not in circle or waits_for(caller, configs, {service.name})
    )


def _emptied(service: ServiceState) -> ServiceState:
    slots = {
        name: replace(slot, count=0) if slot and slot.count else slot
        for name, slot in service.slots.items()
    }
    return service if slots == service.slots else replace(service, slots=slots, warm_until=None)


def _cooled(service: ServiceState, now: float) -> ServiceState:
    """The old group of a blue-green switch goes when its time is over."""
    warm = service.slots[other(service.active)]
    left = 0.0 if service.warm_until is None else service.warm_until - now
    # More left than it ever had: the wall clock was set back.
    if service.warm_until is None or 0 < left <= service.config.deploy.warm:
        return service
    slots = dict(service.slots)
    slots[other(service.active)] = replace(warm, count=0) if warm else None
    return replace(service, slots=slots, warm_until=None)


def _sized(service: ServiceState) -> ServiceState:
    """The group that serves has all requests, and it and the warm one have the service's size. What
    else there is (a baseline group, or what a rollout that was given up has left) goes."""
    warm = () if service.warm_until is None else (other(service.active),)
    slots: dict[SlotName, Slot | None] = {}
    for name, slot in service.slots.items():
        count = service.scale if name in (service.active, *warm) else 0
        weight = 100 if name == service.active else 0
        slots[name] = slot and replace(slot, count=count, weight=weight, mirror=0)
    return service if slots == service.slots else replace(service, slots=slots)
