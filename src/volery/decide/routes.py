"""Documents and observations -> the whole wish for the data plane.

An endpoint is there while its instance is ready; one that is being taken out of rotation stays as
*draining* until its in-flight requests are over. A group without a ready instance gets no request
while the other group has one, whatever its weight says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from volery.decide.world import World
from volery.model.application import Need
from volery.model.ports import (
    Edge,
    Endpoint,
    GatewayRoute,
    GatewayTraffic,
    GroupTraffic,
    ServiceTraffic,
    Split,
    TrafficConfig,
)
from volery.model.state import BASELINE, SLOTS, Instance, ServiceState, SlotName, Track

SYNTHETIC_CALLER = "synthetic.volery"
"""Who calls on the edge of our own requests; no service can have this name."""
EdgePort = Callable[[str, SlotName, str], int]


def traffic_config(world: World, edge_port: EdgePort) -> TrafficConfig:
    """What the data plane should do now."""
    return TrafficConfig(
        gateway=_gateway(world),
        services={name: _service(world, world.services[name]) for name in sorted(world.services)},
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
        for route in gateway.routes
        if route.service in world.services
    )
    return GatewayTraffic(gateway.host, gateway.port, routes)


def _service(world: World, service: ServiceState) -> ServiceTraffic:
    canary = _canary(service)
    groups = {
        slot: _group(world, service, slot)
        for slot in SLOTS
        if slot != BASELINE or service.slots.get(slot) or world.instances_of(service.name, slot)
    }
    return ServiceTraffic(
        world.spec(service, service.active).protocol,
        _without_dead_weight(groups),
        _split(service, canary) if canary else Split(),
    )


def _canary(service: ServiceState) -> SlotName | None:
    """The slot of a canary that has been given requests, or copies of them."""
    for name, slot in service.slots.items():
        if slot and slot.track is Track.CANARY and (slot.weight or slot.mirror):
            return name
    return None


def _split(service: ServiceState, canary: SlotName) -> Split:
    deploy, slot = service.config.deploy, service.slots[canary]
    assert slot is not None
    return Split(
        canary=canary,
        sticky=deploy.sticky,
        override=deploy.override,
        mirror=slot.mirror,
        mirror_all=deploy.mirror_methods == "all",
    )


def _group(world: World, service: ServiceState, slot: SlotName) -> GroupTraffic:
    group = service.slots.get(slot)
    found = (_endpoint(world, item) for item in world.instances_of(service.name, slot))
    endpoints = tuple(sorted(endpoint for endpoint in found if endpoint))
    return GroupTraffic(group.weight if group else 0, endpoints)


def _endpoint(world: World, instance: Instance) -> Endpoint | None:
    seen = world.observed.get(instance.id)
    if seen is None or seen.address is None or instance.intent == "stop":
        return None
    if instance.intent == "drain":
        serving = seen.state in ("ready", "unready")
        return Endpoint(instance.id, seen.address, draining=True) if serving else None
    return Endpoint(instance.id, seen.address) if seen.state == "ready" else None


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
            slot: GroupTraffic(
                group.weight if serving[slot] or not any(serving.values()) else 0, group.endpoints
            )
            for slot, group in groups.items()
        }
    return {
        slot: GroupTraffic(100 if serving[slot] else 0, group.endpoints)
        for slot, group in groups.items()
    }


def _edges(world: World, service: ServiceState, edge_port: EdgePort) -> list[Edge]:
    return _synthetic(service, edge_port) + [
        Edge(service.name, slot, need, edge_port(service.name, slot, need), policy)
        for slot in SLOTS
        if service.slots.get(slot) is not None
        for need, policy in sorted(world.spec(service, slot).needs.items())
        if need in world.services
    ]


def _synthetic(service: ServiceState, edge_port: EdgePort) -> list[Edge]:
    """Where our own requests to a service enter the data plane like any caller's."""
    if not service.config.deploy.synthetic:
        return []
    port = edge_port(SYNTHETIC_CALLER, "a", service.name)
    return [Edge(SYNTHETIC_CALLER, "a", service.name, port, Need())]
