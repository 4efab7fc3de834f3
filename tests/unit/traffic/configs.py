"""Small configurations for tables."""

from __future__ import annotations

from typing import Any

from volery.model.needs import Need
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
from volery.model.state import SlotName


def group(weight: float, *instances: str) -> GroupTraffic:
    """`web-1` is ready, `-web-1` is draining; the address follows from the number."""
    return GroupTraffic(
        weight,
        tuple(
            Endpoint(name.lstrip("-"), f"127.0.0.1:{9000 + int(name[-1])}", name.startswith("-"))
            for name in instances
        ),
    )


def service(
    a: GroupTraffic | None = None,
    b: GroupTraffic | None = None,
    protocol: Any = "http",
    c: GroupTraffic | None = None,
    **split: Any,
) -> ServiceTraffic:
    """`split` is what differs from a plain one: canary, sticky, override, mirror, mirror_all."""
    third: dict[SlotName, GroupTraffic] = {"c": c} if c else {}
    slots: dict[SlotName, GroupTraffic] = {"a": a or group(100, "web-1"), "b": b or group(0)}
    return ServiceTraffic(protocol, slots | third, Split(**split))


def config(*edges: Edge, **services: ServiceTraffic) -> TrafficConfig:
    return TrafficConfig(services=services, edges=edges)


def edge(need: str, port: int = 20_100, **policy: Any) -> Edge:
    return Edge("front", "a", need, port, Need(**policy))


def gateway(*routes: GatewayRoute) -> GatewayTraffic:
    return GatewayTraffic("127.0.0.1", 8080, routes)
