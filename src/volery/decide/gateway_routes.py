"""Which routes of the gateway are in force: those that are wanted, as soon as they lead somewhere.

A route that is led to a service which does not serve yet would answer 503 until that is built,
tested and started, and for ever if that fails. Until then the route before it stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from volery.model.application import Application, Route
from volery.model.fields import prefix_of


def in_force(
    wanted: Sequence[Route],
    before: Sequence[Route],
    awaited: Collection[str],
    leaving: Collection[str],
) -> tuple[Route, ...]:
    """The routes of the gateway now.

    `before` are those that were in force when the wanted ones were asked for; a service in
    `awaited` has not served yet. Its routes wait while one from before answers in their place; a
    service in `leaving`, which is in the manifest no more, keeps its routes so long.
    """
    if not awaited:
        return tuple(wanted)
    late = [
        route
        for route in wanted
        if route.service in awaited and any(_covers(old, route) for old in before)
    ]
    led = [route for route in wanted if route not in late]
    taken = {place(route) for route in led}
    kept = [
        old
        for old in before
        if place(old) not in taken
        and (old.service in leaving or any(_covers(old, route) for route in late))
    ]
    return (*led, *kept)


def with_only(before: Application, wanted: Application, only: Collection[str]) -> Application:
    """What runs, with some services of a newer manifest and the routes that lead to them. All else
    of it, other services' routes and the gateway's port among it, waits for `up`."""
    new = {place(route): route for route in wanted.gateway.routes}
    routes = [
        replaced
        for old in before.gateway.routes
        if (replaced := _replaced(old, new.get(place(old)), only)) is not None
    ]
    there = {place(route) for route in before.gateway.routes}
    routes += [route for at, route in new.items() if at not in there and route.service in only]
    services = {name: wanted.services[name] for name in wanted.services if name in only}
    return before.model_copy(
        update={
            "services": {**before.services, **services},
            "gateway": before.gateway.model_copy(update={"routes": tuple(routes)}),
        }
    )


def place(route: Route) -> str:
    """Host and path: of two routes with the same place only one can answer."""
    return f"{(route.host or '').lower()}{prefix_of(route.path)}/"


def _replaced(old: Route, new: Route | None, only: Collection[str]) -> Route | None:
    if new is not None:
        return new if new.service in only else old
    return None if old.service in only else old


def _covers(old: Route, new: Route) -> bool:
    """Whether one route answers all that the other one would."""
    host = old.host is None or (
        new.host is not None and fnmatchcase(new.host.lower(), old.host.lower())
    )
    return host and f"{prefix_of(new.path)}/".startswith(f"{prefix_of(old.path)}/")
