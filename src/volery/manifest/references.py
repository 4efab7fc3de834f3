"""Does the manifest agree with itself? Names that must exist, names that must not clash, order.

Pure: looks at the model and at which services are declared at all (one with a mistake of its own
still exists), None where that cannot be told because a file could not be read. Yields problems: a
path, what is wrong there, and whether the key or the value is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from volery.manifest.explain import nearest
from volery.manifest.mistake import Path, dotted, quoted
from volery.model.application import Application, Gateway, Route, Scale, Service, ServiceOverride
from volery.model.deploy import Deploy
from volery.model.fields import prefix_of

CYCLES_MAX = 20


@dataclass(frozen=True)
class Problem:
    """Something wrong at a path."""

    path: Path
    message: str
    at_key: bool = False
    other: Path = ()
    """Another place, which the message names as `{}`."""

    def said(self, written: Callable[[Path], Path] = lambda path: path) -> str:
        """The message; `written` says where the other place is written."""
        if not self.other:
            return self.message
        return self.message.replace("{}", dotted(written(self.other)), 1)


def problems(application: Application, declared: Collection[str] | None) -> Iterator[Problem]:
    """Everything about the application that contradicts itself."""
    yield from _routes(application, declared)
    for name, service in application.services.items():
        yield from _needs(name, service, declared)
        yield from _replicas(name, service, application.services)
        yield from _size(("services", name), service.scale)
        yield from _environment(name, service)
        yield from _stateful(("services", name), service, service.deploy)
        yield from _movable(("services", name), service.deploy)
    yield from _cycles(application.services)
    yield from _overrides(application, declared)
    yield from _accounts(application)


def _unknown(path: Path, name: str, declared: Collection[str], at_key: bool = False) -> Problem:
    return Problem(path, f"unknown service {quoted(name)}{nearest(name, declared)}", at_key)


def _routes(application: Application, declared: Collection[str] | None) -> Iterator[Problem]:
    gateway: Gateway = application.gateway
    first: dict[tuple[str, str], int] = {}
    for index, route in enumerate(gateway.routes):
        at: Path = ("gateway", "routes", index)
        if declared is not None and route.service not in declared:
            yield _unknown((*at, "service"), route.service, declared)
        yield from _route(at, route, application.services.get(route.service))
        key = ((route.host or "*").lower(), prefix_of(route.path))
        if key in first:
            other = gateway.routes[first[key]]
            said = f"collides with {{}} (to {other.service}): same path and host"
            yield Problem((*at, "path"), said, other=(*at[:2], first[key]))
        first.setdefault(key, index)


def _route(at: Path, route: Route, service: Service | None) -> Iterator[Problem]:
    strip = prefix_of(route.strip or "/") + "/"
    if not (prefix_of(route.path) + "/").startswith(strip):
        wanted = f"must be a prefix of path {quoted(route.path)} on whole segments"
        yield Problem((*at, "strip"), f"{wanted}, got {quoted(route.strip or '')}")
    if service is not None and service.protocol == "tcp":
        said = f"must be a service that speaks HTTP; {route.service!r} has protocol tcp"
        yield Problem((*at, "service"), said)


def _needs(name: str, service: Service, declared: Collection[str] | None) -> Iterator[Problem]:
    for need in service.needs:
        at: Path = ("services", name, "needs", need)
        if need == name:
            yield Problem(at, "a service cannot need itself", at_key=True)
        elif declared is not None and need not in declared:
            yield _unknown(at, need, declared, at_key=True)


def _replicas(name: str, service: Service, services: Mapping[str, Service]) -> Iterator[Problem]:
    """One variable cannot hold two addresses."""
    for need in service.needs:
        state = services[need].state if need in services else None
        if state is not None and state.role is not None and f"{need}-replicas" in service.needs:
            taken = f"{_stem(need)}_REPLICAS_URL is the address of the replicas of {need}"
            at: Path = ("services", name, "needs", f"{need}-replicas")
            yield Problem(at, f"{taken} already; give the service another name", at_key=True)


def _size(at: Path, scale: Scale) -> Iterator[Problem]:
    if scale.min < 1:
        said = f"must be at least 1, got {scale.min}: scaling to nothing is not active yet"
        yield Problem((*at, "scale", "min"), said)


def _stem(need: str) -> str:
    return need.upper().replace("-", "_")


def set_by_volery(name: str, service: Service) -> dict[str, str]:
    """Names of variables that a service is given anyway, and what they are for."""
    urls = {}
    if service.state is not None and service.state.role is not None:
        urls[f"{_stem(name)}_URL"] = "the address of its primary"
    for need in service.needs:
        urls[f"{_stem(need)}_URL"] = f"the address of {need}"
        urls[f"{_stem(need)}_REPLICAS_URL"] = f"the address of the replicas of {need}"
    return {"PORT": "where to listen", "HOST": "where to listen"} | urls


def _taken(variable: str, name: str, service: Service) -> str:
    meaning = set_by_volery(name, service).get(variable)
    if variable.startswith("VOLERY_"):
        meaning = "names that start with VOLERY_ are its own"
    return f"is set by Volery ({meaning}); use another name" if meaning else ""


def _environment(name: str, service: Service) -> Iterator[Problem]:
    at: Path = ("services", name)
    for variable in service.env:
        taken = _taken(variable, name, service)
        if taken:
            yield Problem((*at, "env", variable), taken, at_key=True)
    seen: set[str] = set()
    for index, secret in enumerate(service.secrets):
        said = _taken(secret, name, service)
        if secret in service.env:
            said = f"{quoted(secret)} is also in env; keep one of the two"
        elif secret in seen:
            said = f"{quoted(secret)} is listed twice"
        seen.add(secret)
        if said:
            yield Problem((*at, "secrets", index), said)


def _stateful(at: Path, service: Service, deploy: Deploy) -> Iterator[Problem]:
    if service.state is not None and deploy.strategy in ("blue-green", "canary"):
        said = (
            "must be rolling or recreate for a service with state (two groups would share its "
            f"volume), got {deploy.strategy!r}"
        )
        yield Problem((*at, "deploy", "strategy"), said)


def _movable(at: Path, deploy: Deploy) -> Iterator[Problem]:
    if deploy.surge == deploy.unavailable == 0:
        said = "surge and unavailable cannot both be 0: nothing could ever move"
        yield Problem((*at, "deploy"), said)


def _cycles(services: Mapping[str, Service]) -> Iterator[Problem]:
    left = dict(services)
    for _ in range(CYCLES_MAX):
        cycle = _cycle(left)
        if not cycle:
            return
        said = f"needs go in a circle: {' -> '.join(cycle)}; remove one, or make it "
        path: Path = ("services", cycle[0], "needs", cycle[1])
        yield Problem(path, said + "`importance: degradable`", at_key=True)
        left = {name: service for name, service in left.items() if name not in cycle}


def _cycle(services: Mapping[str, Service]) -> list[str]:
    """One circle of needs that order, from the first-written service back to it."""
    graph = {
        name: [
            need
            for need, edge in service.needs.items()
            if edge.importance != "degradable" and need in services and need != name
        ]
        for name, service in services.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        ring: list[str] = error.args[1][:0:-1]
        written = {name: index for index, name in enumerate(services)}
        start = ring.index(min(ring, key=written.__getitem__))
        return [*ring[start:], *ring[:start], ring[start]]
    return []


def _overrides(application: Application, declared: Collection[str] | None) -> Iterator[Problem]:
    for environment, settings in application.environments.items():
        for name, override in settings.overrides.items():
            at: Path = ("environments", environment, "overrides", name)
            if declared is not None and name not in declared:
                yield _unknown(at, name, declared, at_key=True)
            if name in application.services:
                yield from _override(at, name, application.services[name], override)


def _override(
    at: Path, name: str, service: Service, override: ServiceOverride
) -> Iterator[Problem]:
    for variable in override.env:
        said = _taken(variable, name, service)
        if variable in service.secrets:
            said = f"{quoted(variable)} is also a secret; keep one of the two"
        if said:
            yield Problem((*at, "env", variable), said, at_key=True)
    if override.deploy is not None:
        yield from _stateful(at, service, override.deploy)
        if override.deploy.model_fields_set & {"surge", "unavailable"}:
            yield from _movable(at, override.applied(service).deploy)
    if override.scale is not None:
        yield from _size(at, override.scale)


def _accounts(application: Application) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for name, account in application.accounts.items():
        for index, host in enumerate(account.hosts):
            if host in first:
                said = f"{quoted(host)} is also in accounts.{first[host]}: it counts for one"
                yield Problem(("accounts", name, "hosts", index), said)
            first.setdefault(host, name)
