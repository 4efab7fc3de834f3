"""What a new manifest changes about the gateway: addresses and routes, a line each, for `plan`."""

from __future__ import annotations

from collections.abc import Iterator

from volery.decide.world import World
from volery.model.application import Application, Gateway, Route


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
