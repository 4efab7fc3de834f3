"""Documents and observations -> the whole wish for the data plane.

An endpoint is there while its instance is ready; one that is being taken out of rotation stays as
*draining* until its in-flight requests are over; so does one that is suspect or withheld by a heal,
while the others of its group can do without it. A group without a ready instance gets no request
while the other group has one, whatever its weight says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from volery.decide.by_role import by_role, has_roles, replicas_of
from volery.decide.tags import are_welcome, canary_of
from volery.decide.world import World
from volery.model.needs import Need
from volery.model.ports import (
    SYNTHETIC_CALLER,
    Edge,
    Endpoint,
    GatewayRoute,
    GatewayTraffic,
    GroupTraffic,
    Observation,
    ServiceTraffic,
    Split,
    TrafficConfig,
)
from volery.model.state import BASELINE, SLOTS, Instance, ServiceState, SlotName

EdgePort = Callable[[str, SlotName, str], int]


class Router:
    """What the data plane should do, worked out anew only when something that it follows from is
    another: most looks find nothing new in it. The same wish is the same object."""

    def __init__(self, edge_port: EdgePort) -> None:
        self._edge_port = edge_port
        self._given: tuple[object, ...] = ()
        self._config = TrafficConfig()

    def config(self, world: World) -> TrafficConfig:
        """What the data plane should do now."""
        given = _given(world)
        if given != self._given:
            self._given, found = given, traffic_config(world, self._edge_port)
            if found != self._config:
                self._config = found
        return self._config


def _given(world: World) -> tuple[object, ...]:
    """All of a world that `traffic_config` looks at."""
    return (
        world.environment,
        world.services,
        world.instances,
        world.releases,
        world.tenures,
        [(item.group, item.from_release, item.to_release) for item in world.active_rollouts()],
        {key: _looked_at(seen) for key, seen in world.observed.items()},
    )


def _looked_at(seen: Observation) -> tuple[object, ...]:
    """All of an observation that `traffic_config` looks at: not how much memory one uses, or how
    far its data is."""
    unsure = seen.unsure_since is not None
    return seen.state, seen.address, seen.suspect, seen.role, unsure, seen.volume


def traffic_config(world: World, edge_port: EdgePort) -> TrafficConfig:
    """What the data plane should do now."""
    return TrafficConfig(
        gateway=_gateway(world),
        services={
            name: traffic
            for service in sorted(world.services)
            for name, traffic in _services(world, world.services[service]).items()
        },
        edges=tuple(
            edge
            for name in sorted(world.services)
            for edge in _edges(world, world.services[name], edge_port)
        ),
    )


def _gateway(world: World) -> GatewayTraffic | None:
    environment = world.environment
    if environment is None or not environment.running:
        return None
    gateway = environment.application.gateway
    routes = tuple(
        GatewayRoute(route.path, route.service, route.host, route.strip)
        for route in world.routes
        if route.service in world.services
    )
    return GatewayTraffic(gateway.host, gateway.port, routes)


def _services(world: World, service: ServiceState) -> dict[str, ServiceTraffic]:
    whole = _service(world, service)
    if has_roles(world, service.name):
        return by_role(world, service, whole)
    return {service.name: whole}


def _service(world: World, service: ServiceState) -> ServiceTraffic:
    canary = canary_of(service)
    groups = {
        slot: _group(world, service, slot)
        for slot in SLOTS
        if slot != BASELINE or service.slots.get(slot) or world.instances_of(service.name, slot)
    }
    return ServiceTraffic(
        world.spec(service, service.active).protocol,
        _without_dead_weight(groups),
        _split(world, service, canary) if canary else Split(),
    )


def _split(world: World, service: ServiceState, canary: SlotName) -> Split:
    deploy, slot = service.config.deploy, service.slots[canary]
    assert slot is not None
    return Split(
        canary=canary,
        sticky=deploy.sticky,
        override=deploy.override,
        mirror=slot.mirror,
        mirror_all=deploy.mirror_methods == "all",
        tagged=are_welcome(world, service),
    )


def _group(world: World, service: ServiceState, slot: SlotName) -> GroupTraffic:
    group = service.slots.get(slot)
    there = world.instances_of(service.name, slot)
    resting = rested(world, there)
    found = (_endpoint(world, item, resting) for item in there)
    endpoints = tuple(sorted(endpoint for endpoint in found if endpoint))
    if group is None:
        return GroupTraffic(0, endpoints)
    mine = world.spec(service, slot).protocol
    differs = mine != world.spec(service, service.active).protocol
    return GroupTraffic(group.weight, endpoints, mine if differs else None)


def rested(world: World, group: Sequence[Instance]) -> frozenset[str]:
    """The instances that are ready and get no new request all the same: suspects, and those that a
    heal withholds. No more than half of a group: what most of them do is a matter of the load or of
    the machine, and fewer would only make it worse. Never the primary: nobody can stand in."""
    ready = [item for item in group if item.intent == "run" and world.ready(item)]
    doubtful = [
        item.id
        for item in ready
        if (item.withheld or world.observed[item.id].suspect) and not _is_primary(world, item)
    ]
    return frozenset(doubtful if 2 * len(doubtful) <= len(ready) else ())


def _is_primary(world: World, item: Instance) -> bool:
    tenure = world.tenures.get(item.service)
    return tenure is not None and tenure.primary == item.id and world.has_roles(item)


def _endpoint(world: World, instance: Instance, resting: frozenset[str]) -> Endpoint | None:
    seen = world.observed.get(instance.id)
    if seen is None or seen.address is None or instance.intent == "stop":
        return None
    if instance.intent == "drain":
        serving = seen.state in ("ready", "unready")
        return Endpoint(instance.id, seen.address, draining=True) if serving else None
    if seen.state != "ready":
        return None
    return Endpoint(instance.id, seen.address, draining=instance.id in resting)


def _without_dead_weight(
    groups: Mapping[SlotName, GroupTraffic],
) -> Mapping[SlotName, GroupTraffic]:
    serving = {
        slot: any(not endpoint.draining for endpoint in group.endpoints)
        for slot, group in groups.items()
    }
    weighted = [slot for slot, group in groups.items() if group.weight > 0]
    if not any(serving.values()) or any(serving[slot] for slot in weighted):
        return {
            slot: group if serving[slot] or not any(serving.values()) else replace(group, weight=0)
            for slot, group in groups.items()
        }
    return {
        slot: replace(group, weight=100 if serving[slot] else 0) for slot, group in groups.items()
    }


def _edges(world: World, service: ServiceState, edge_port: EdgePort) -> list[Edge]:
    return _synthetic(service, edge_port) + [
        Edge(service.name, slot, need, edge_port(service.name, slot, need), policy)
        for slot in SLOTS
        if service.slots.get(slot) is not None
        for need, policy in _needs(world, service, slot)
    ]


def _needs(world: World, service: ServiceState, slot: SlotName) -> Iterator[tuple[str, Need]]:
    """What a group calls; its own primary, too, where it has one."""
    if has_roles(world, service.name):
        yield service.name, Need()
    for need, policy in sorted(world.spec(service, slot).needs.items()):
        if need in world.services:
            yield need, policy
            if has_roles(world, need):
                yield replicas_of(need), policy


def _synthetic(service: ServiceState, edge_port: EdgePort) -> list[Edge]:
    """Where our own requests to a service enter the data plane like any caller's."""
    if not service.config.deploy.synthetic:
        return []
    port = edge_port(SYNTHETIC_CALLER, "a", service.name)
    return [Edge(SYNTHETIC_CALLER, "a", service.name, port, Need())]
