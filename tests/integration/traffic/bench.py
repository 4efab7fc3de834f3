"""What every test of real traffic needs: an environment with Envoy, clients, and patience."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from volery.model.needs import Need
from volery.model.ports import (
    Edge,
    Endpoint,
    GatewayRoute,
    GatewayTraffic,
    GroupTraffic,
    ServiceTraffic,
    TrafficConfig,
    TrafficStatus,
)
from volery.traffic.admin import AdminError
from volery.traffic.envoy import EnvoyTraffic
from volery.traffic.proxy import Proxy, known

PATIENCE_SECONDS = 60.0


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def free_port() -> int:
    """A free port outside the ephemeral range, where no client's socket may take it meanwhile, and
    none that a test beside this one may choose."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    for port in range(10_000 + time.monotonic_ns() % 2_000 * 4 + worker, 20_000, 4):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


async def eventually(
    condition: Callable[[], object | Awaitable[object]], what: str = "condition"
) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{what}: not within {PATIENCE_SECONDS} s")


@contextlib.asynccontextmanager
async def opened(
    home: Path, drain_seconds: float = 1.0, wake: Callable[[], None] = lambda: None
) -> AsyncIterator[EnvoyTraffic]:
    """An environment's traffic, Envoy ended afterwards whatever happens."""
    traffic = EnvoyTraffic(home, wake, drain_seconds=drain_seconds)
    await traffic.open()
    try:
        yield traffic
    finally:
        await traffic.stop()


_generation = iter(range(1, 1_000_000))


async def apply(traffic: EnvoyTraffic, config: TrafficConfig) -> TrafficStatus:
    """Make it so and wait until it is."""
    generation = next(_generation)
    traffic.apply(config, generation)

    def done() -> bool:
        status = traffic.observe()
        assert status.rejected is None, status.rejected
        return status.acknowledged >= generation and status.ready

    await eventually(done, "acknowledged and ready")
    return traffic.observe()


def service(
    protocol: Any = "http",
    a: tuple[int, str | None] = (100, None),
    b: tuple[int, str | None] = (0, None),
) -> ServiceTraffic:
    """A service with at most one instance a slot, given as (weight, address)."""

    def group(slot: str, weight: int, address: str | None) -> GroupTraffic:
        return GroupTraffic(weight, (Endpoint(slot, address),) if address else ())

    return ServiceTraffic(protocol, {"a": group("a-1", *a), "b": group("b-1", *b)})


def draining(config: TrafficConfig, name: str, instance: str) -> TrafficConfig:
    """The same with one instance of a service draining."""
    found = config.services[name]
    slots = {
        slot: GroupTraffic(
            group.weight,
            tuple(
                replace(item, draining=item.draining or item.instance == instance)
                for item in group.endpoints
            ),
        )
        for slot, group in found.slots.items()
    }
    return replace(config, services={**config.services, name: replace(found, slots=slots)})


def gateway(port: int, *routes: GatewayRoute) -> GatewayTraffic:
    return GatewayTraffic("127.0.0.1", port, routes or (GatewayRoute("/", "web"),))


def edge(traffic: EnvoyTraffic, caller: str, need: str, policy: Need | None = None) -> Edge:
    return Edge(caller, "a", need, traffic.edge_port(caller, "a", need), policy or Need())


@contextlib.asynccontextmanager
async def client(port: int, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30, **options
    ) as found:
        yield found


async def told(proxy: Proxy, path: str) -> str:
    """What an Envoy's admin interface answers; one that is held up is asked again."""
    found: list[str] = []

    async def answered() -> bool:
        with contextlib.suppress(AdminError):
            found.append(await proxy.admin.ask(path))
        return bool(found)

    try:
        await eventually(answered, f"an answer to {path}")
    finally:
        await proxy.admin.close()
    return found[0]


async def is_calm(home: Path, name: str = "web") -> bool:
    """Whether every Envoy takes a service for calm, and goes without what it needs not."""
    texts = [await told(proxy, "/runtime?format=json") for proxy in known(home)]
    return all(f"volery.calm.{name}" in json.loads(text)["entries"] for text in texts)


class Load:
    """Requests at a steady rate, a new connection each, every outcome counted."""

    def __init__(self, port: int, rate: float = 300.0) -> None:
        self.outcomes: Counter[str] = Counter()
        self.under_way = 0
        self._port, self._rate, self._over = port, rate, False

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator[Counter[str]]:
        task = asyncio.create_task(self._run())
        try:
            yield self.outcomes
        finally:
            self._over = True
            await task

    async def _run(self) -> None:
        next_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self._over:
                group.create_task(self.one(self.outcomes))
                next_at = max(next_at + 1 / self._rate, time.monotonic() - 0.5)
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def one(self, outcomes: Counter[str]) -> None:
        """One request, its outcome counted: the status, or what went wrong."""
        self.under_way += 1
        try:
            await self._one(outcomes)
        finally:
            self.under_way -= 1

    async def _one(self, outcomes: Counter[str]) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            outcomes[f"connect: {error!r}"] += 1
            return
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            outcomes[head.split(b" ")[1].decode()] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            outcomes[f"answer: {error!r}"] += 1
        finally:
            writer.close()
