"""Small worlds for tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from volery.decide.members import place
from volery.decide.world import World
from volery.model.application import Application, Gateway
from volery.model.ports import Observation
from volery.model.state import (
    EnvironmentState,
    Instance,
    Phase,
    Release,
    Rollout,
    ServiceState,
    Slot,
    SlotName,
    Track,
)


def application(**services: dict[str, Any]) -> Application:
    """An application; each service needs only what the test is about."""
    given = {name.replace("_", "-"): {"run": "serve"} | body for name, body in services.items()}
    routes = [{"path": "/", "service": next(iter(given))}]
    return Application.model_validate(
        {"app": "birds", "services": given, "gateway": {"routes": routes}}
    )


def slot(release: str, count: int = 1, weight: int = 100) -> Slot:
    return Slot(release, Track.STABLE, count, weight)


def running(app: Application, counts: dict[str, int] | None = None, version: str = "1") -> World:
    """Every service live in slot a, all instances ready."""
    services, instances, releases, observed = {}, {}, {}, {}
    for index, (name, config) in enumerate(app.services.items()):
        count = (counts or {}).get(name, config.scale.min)
        release = f"{name}@{version}"
        releases[release] = Release(release, name, version, config, 0.0, state="live")
        slots: dict[SlotName, Slot | None] = {"a": slot(release, count), "b": None}
        services[name] = ServiceState(name, config, count, slots)
        for number in range(1, count + 1):
            identity = place(name, number - 1) if config.state else f"{name}-{version}-{number}"
            item = instance(identity, name, release)
            instances[item.id] = item
            observed[item.id] = seen(item.id, 20000 + 100 * index + number)
    environment = EnvironmentState(app, "dev", "/src")
    return World(environment, services, instances, releases, {}, observed)


def leaving(found: World) -> World:
    """Every service has left the manifest."""
    assert found.environment is not None
    empty = found.environment.application.model_copy(update={"services": {}, "gateway": Gateway()})
    services = {name: replace(item, removing=True) for name, item in found.services.items()}
    environment = replace(found.environment, application=empty)
    return replace(found, environment=environment, services=services)


def instance(identity: str, service: str, release: str, slot: SlotName = "a") -> Instance:
    return Instance(identity, service, slot, release, "run", 0.0, 0.0, proven=True)


def seen(identity: str, port: int, state: str = "ready", **more: Any) -> Observation:
    return Observation(identity, state, f"127.0.0.1:{port}", **more)  # type: ignore[arg-type]


def canary_world(
    phase: Phase = Phase.ANALYSING,
    cause: str = "deploy",
    *,
    strategy: str = "canary",
    promise: dict[str, Any] | None = None,
    **deploy: Any,
) -> World:
    """The catalog's rollout to a second release, in its first step beside four old instances."""
    steps = {"strategy": strategy, "steps": ["10%", "50%"]}
    body = {"scale": 4, "steady_state": promise, "deploy": steps | deploy}
    found = running(application(catalog=body))
    service = found.services["catalog"]
    weight = 10 if strategy == "canary" else 100
    old = slot("catalog@1", 4, 100 - weight)
    slots = dict(service.slots) | {"a": old, "b": Slot("catalog@2", Track.CANARY, 1, weight)}
    rollout = Rollout(
        id="catalog-r2",
        service="catalog",
        from_release="catalog@1",
        to_release="catalog@2",
        strategy=strategy,  # type: ignore[arg-type]
        cause=cause,  # type: ignore[arg-type]
        slot="b",
        group="catalog-r2",
        created_at=0.0,
        since=0.0,
        phase=phase,
        step=1,
        steps=3 if strategy == "canary" else 1,
        weight=weight,
    )
    release = Release("catalog@2", "catalog", "2", service.config, 0.0, state="built")
    item = instance("catalog-2-1", "catalog", "catalog@2", "b")
    return replace(
        found,
        services={"catalog": replace(service, slots=slots)},
        rollouts={rollout.id: rollout},
        releases=dict(found.releases) | {release.id: release},
        instances=dict(found.instances) | {item.id: item},
        observed=dict(found.observed) | {item.id: seen(item.id, 20999)},
    )


def only(found: World) -> Rollout:
    """The one rollout there is."""
    (rollout,) = found.rollouts.values()
    return rollout
