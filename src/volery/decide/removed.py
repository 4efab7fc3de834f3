"""A service that is in the manifest no more and still there: why, in words."""

from __future__ import annotations

from collections.abc import Iterator

from volery.decide.order import callers
from volery.decide.world import World
from volery.model.state import ServiceState

LEFT = "it is not in the manifest any more"


def why_there(world: World, service: ServiceState) -> str | None:
    """Who still calls a removed service, or that it goes; None for one in the manifest."""
    if not service.removing or service.name in world.staying:
        return why_kept(world, service)
    there = [name for name in callers(service.name, world.as_run) if world.instances_of(name)]
    how = f"goes after {', '.join(there)}" if there else "is going"
    return f"{LEFT}; {how}"


def why_kept(world: World, service: ServiceState) -> str | None:
    """Who still calls a removed service that stays; None for others."""
    if not service.removing or service.name not in world.staying:
        return None
    because = " and ".join([*_users(world, service.name), *_releases(world, service.name)])
    how = f"while {because}" if because else "until the running up is over"
    return f"{LEFT}; stays {how}"


def _users(world: World, name: str) -> Iterator[str]:
    paths = [f"{route.host or ''}{route.path}" for route in world.routes if route.service == name]
    if paths and world.environment:
        awaited = ", ".join(world.environment.awaited)
        yield f"users reach it at {', '.join(paths)} until {awaited} serves"


def _releases(world: World, name: str) -> Iterator[str]:
    """Those that call it, of services that stay."""
    found = [
        release.id
        for caller in callers(name, world.as_run)
        if caller in world.staying
        for release in world.releases_run(world.services[caller])
        if name in release.spec.needs
    ]
    if found:
        yield f"{', '.join(found)} may call it"
