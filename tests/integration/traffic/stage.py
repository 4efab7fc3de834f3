"""A service with three groups behind a gateway and an edge, and who asks them.

Shares are judged by binomial bounds of five standard deviations, never by time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.traffic.bench import apply, client, edge, free_port, gateway, opened
from integration.traffic.upstreams import Web

from volery.model.needs import Need
from volery.model.ports import Edge, Endpoint, GroupTraffic, ServiceTraffic, Split, TrafficConfig
from volery.traffic.envoy import EnvoyTraffic

Headers = list[tuple[str, str]]
CONNECTIONS = 8
HERE = "127.0.0.1:9"
TAGGED = [("baggage", "volery-track=canary")]


def near(count: int, total: int, share: float) -> bool:
    """Whether a count is what chance makes of this share."""
    return abs(count - total * share) <= 5 * math.sqrt(total * share * (1 - share)) + 1


def web(
    stable: tuple[float, str | None],
    canary: tuple[float, str | None],
    baseline: tuple[float, str | None] | None = None,
    protocol: Any = "http",
    **kind: Any,
) -> ServiceTraffic:
    """A service whose slot b is the canary: (weight, address) of each group."""
    groups = {"a": stable, "b": canary} | ({"c": baseline} if baseline else {})
    slots: Any = {
        slot: GroupTraffic(weight, (Endpoint(f"{slot}-1", address),) if address else ())
        for slot, (weight, address) in groups.items()
    }
    return ServiceTraffic(protocol, slots, Split("b", **kind))


@dataclass
class Stage:
    """Three groups behind a gateway and an edge."""

    traffic: EnvoyTraffic
    stable: Web
    canary: Web
    baseline: Web
    port: int
    inside: Edge
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def splits(self, a: float, b: float, c: float | None = None, **kind: Any) -> None:
        third = None if c is None else (c, self.baseline.address)
        await self.be(web((a, self.stable.address), (b, self.canary.address), third, **kind))

    async def be(self, service: ServiceTraffic) -> None:
        wish = TrafficConfig(gateway(self.port), {"web": service}, (self.inside,))
        await apply(self.traffic, wish)


@contextlib.asynccontextmanager
async def stage(home: Path, policy: Need | None = None) -> AsyncIterator[Stage]:
    async with (
        Web("stable").running() as stable,
        Web("canary").running() as canary,
        Web("baseline").running() as baseline,
        opened(home) as traffic,
    ):
        inside = edge(traffic, "front", "web", policy)
        yield Stage(traffic, stable, canary, baseline, free_port(), inside)


async def ask(
    port: int, headers: Headers | list[tuple[bytes, bytes]] | None = None, method: str = "GET"
) -> dict[str, Any]:
    """Who answered, what it saw of `baggage`, and the cookie that came back."""
    async with client(port) as http:
        answer = await http.request(method, "/", headers=headers)
    seen = answer.json()
    found: Headers = seen["headers"]
    baggage = [value for name, value in found if name == "baggage"]
    return {"name": seen["name"], "baggage": baggage, "cookie": answer.headers.get("set-cookie")}


async def names(port: int, count: int, header: Callable[[int], str] = lambda _: "") -> list[str]:
    """Who answered each of many requests, over a few connections kept open."""
    found = [""] * count

    async def some(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for index in range(first, count, CONNECTIONS):
            line = header(index)
            writer.write(f"GET / HTTP/1.1\r\nhost: x\r\n{line}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            found[index] = json.loads(await reader.readexactly(length))["name"]
        writer.close()

    async with asyncio.TaskGroup() as group:
        for first in range(CONNECTIONS):
            group.create_task(some(first))
    return found


def by_user(name: str) -> Callable[[int], str]:
    return lambda index: f"{name}: user-{index}\r\n"


def by_cookie(name: str) -> Callable[[int], str]:
    return lambda index: f"cookie: theme=dark; {name}=user-{index}\r\n"


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """An address that is ours and refuses every connection."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"
