"""What a new manifest changes about the gateway, and when: a route counts once it leads somewhere
(see `gateway_routes`). What it changes is told by `plan`, addresses and routes, a line each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from volery.decide.gateway_routes import with_only
from volery.decide.upkeep import is_leaving
from volery.decide.world import World
from volery.model.application import Application, Gateway, Route
from volery.model.state import ServiceState


def applied(world: World, application: Application, only: Collection[str] | None) -> Application:
    """What the environment is to be: the manifest, or with `only` what runs and these of it."""
    environment = world.environment
    if only is None or environment is None or not environment.running:
        return application
    return with_only(environment.application, application, only)


def awaited_by(world: World, routes: Sequence[Route]) -> tuple[str, ...]:
    """The services that routes lead to and that do not serve: new ones, also those whose first
    release is on its way or did not come up, those that were awaited already, and those that are
    just leaving."""
    environment = world.environment
    before = environment.awaited if environment else ()
    there = {
        name
        for name, service in world.services.items()
        if not is_leaving(world, service) and _has_served(world, service)
    }
    led = {route.service for route in routes}
    return tuple(sorted(name for name in led if name in before or name not in there))


def arrived(world: World) -> frozenset[str]:
    """The awaited services that serve now: their first release is live, as large as it should."""
    environment = world.environment
    return frozenset(
        name for name in (environment.awaited if environment else ()) if _serves(world, name)
    )


def _serves(world: World, name: str) -> bool:
    service = world.services.get(name)
    if service is None or not _has_served(world, service) or world.rollout_of(name) is not None:
        return False
    return any(item.intent == "run" and world.ready(item) for item in world.instances_of(name))


def _has_served(world: World, service: ServiceState) -> bool:
    release = world.releases.get(service.live.release) if service.live else None
    return release is not None and release.state == "live"


def gateway_changes(world: World, application: Application) -> tuple[str, ...]:
    """Each change of where users come in, in words; none where nothing is up yet."""
    environment = world.environment
    if environment is None or not environment.running:
        return ()
    before, after = environment.application.gateway, application.gateway
    return (*_address(before, after), *_routes(before, after))


def _address(before: Gateway, after: Gateway) -> Iterator[str]:
    old, new = f"{before.host}:{before.port}", f"{after.host}:{after.port}"
    if old != new:
        yield f"{old} -> {new}"


def _routes(before: Gateway, after: Gateway) -> Iterator[str]:
    old, new = _by_place(before), _by_place(after)
    gone = {place: route for place, route in old.items() if place not in new}
    added = {place: route for place, route in new.items() if place not in old}
    for place, route in new.items():
        if place in old and old[place] != route:
            yield f"{place}: {_target(old[place])} -> {_target(route)}"
    for place, route in added.items():
        moved = [origin for origin, other in gone.items() if other.service == route.service]
        if moved:
            del gone[moved[0]]
            yield f"{moved[0]} -> {place} ({route.service})"
        else:
            yield f"{place} leads to {route.service}"
    for place, route in gone.items():
        yield f"{place} does not lead to {route.service} any more"


def _by_place(gateway: Gateway) -> dict[str, Route]:
    return {f"{route.host or ''}{route.path}": route for route in gateway.routes}


def _target(route: Route) -> str:
    return f"{route.service} (strips {route.strip})" if route.strip else route.service
