"""Data planes to hold against the port: Envoy with real requests, and the simulated proxies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2
from integration.traffic.bench import client, eventually, free_port, gateway, opened
from integration.traffic.upstreams import Web
from simulation.adapters import Behaviour, SimEngine, SimTraffic, Timeline

from volery.model.application import Health, Resources, Stop
from volery.model.ports import GatewayTraffic, InstanceSpec, Traffic

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Held:
    """A request that is not answered before `let_go`."""

    instance: str
    let_go: Callable[[], Awaitable[None]]


class Bench(Protocol):
    """A data plane, instances behind it, users before it, and time."""

    wakes: list[int]

    @property
    def traffic(self) -> Traffic:
        """What is held against the port."""

    @property
    def gateway(self) -> GatewayTraffic:
        """Where users come in: everything goes to `web`."""

    async def serve(self, instance: str) -> str:
        """A ready instance; its address."""

    async def ask(self) -> str:
        """One request; the instance that answered."""

    async def hold(self) -> Held:
        """One request that stays in flight."""

    async def until(self, condition: Callable[[], object]) -> None:
        """Let time go on until a condition holds."""

    async def a_while(self) -> None:
        """Time enough for what must not happen."""

    def play(self, scenario: Callable[[Bench], Awaitable[None]]) -> None:
        """The scenario, with the data plane open; nothing of it is left afterwards."""


class EnvoyBench:
    """Envoy, HTTP servers of this process, and a client."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "traffic"
        self._port = free_port()
        self._webs: dict[str, Web] = {}
        self._open: Traffic | None = None
        self._stack = AsyncExitStack()
        self._client: httpx2.AsyncClient | None = None
        self.wakes: list[int] = []

    @property
    def traffic(self) -> Traffic:
        """Envoy's."""
        assert self._open is not None
        return self._open

    @property
    def gateway(self) -> GatewayTraffic:
        """On a free port."""
        return gateway(self._port)

    async def serve(self, instance: str) -> str:
        """A server that says its name."""
        web = await self._stack.enter_async_context(Web(instance).running())
        self._webs[instance] = web
        return web.address

    async def ask(self) -> str:
        """Through the gateway."""
        assert self._client is not None
        return str((await self._client.get("/")).json()["name"])

    async def hold(self) -> Held:
        """The slow path, and who waits."""
        assert self._client is not None
        going = asyncio.create_task(self._client.get("/slow"))
        await self.until(self._waiting)
        (web,) = self._waiting()

        async def let_go() -> None:
            web.release.set()
            assert (await going).json()["name"] == web.name

        return Held(web.name, let_go)

    def _waiting(self) -> list[Web]:
        return [web for web in self._webs.values() if web.waiting]

    async def until(self, condition: Callable[[], object]) -> None:
        """Look again and again."""
        await eventually(condition, "the condition")

    async def a_while(self) -> None:
        """Longer than Envoy takes to follow."""
        await asyncio.sleep(0.3)

    def play(self, scenario: Callable[[Bench], Awaitable[None]]) -> None:
        """Envoy ends afterwards."""

        async def whole() -> None:
            async with (
                self._stack,
                opened(self._home, wake=lambda: self.wakes.append(1)) as self._open,
                client(self._port) as self._client,
            ):
                await scenario(self)

        asyncio.run(whole())


class SimBench:
    """Virtual time."""

    def __init__(self, _: Path) -> None:
        self._line = Timeline(1)
        self._engine = SimEngine(self._line, lambda release: Behaviour())
        self._sim = SimTraffic(self._line, self._engine)
        self.wakes: list[int] = []
        self._sim.wake = lambda: self.wakes.append(1)

    @property
    def traffic(self) -> Traffic:
        """The simulated proxies."""
        return self._sim

    @property
    def gateway(self) -> GatewayTraffic:
        """Only a name here."""
        return gateway(8080)

    async def serve(self, instance: str) -> str:
        """An instance of the simulated engine."""
        spec = InstanceSpec(
            *(instance, "web", "web@1", ("serve",), "/src", {}, "http"),
            Health(),
            Resources(),
            Stop(),
        )
        self._engine.start(spec)
        await self.until(lambda: self._engine.observe()[instance].state == "ready")
        return str(self._engine.observe()[instance].address)

    async def ask(self) -> str:
        """One user's request, and whose counter it raised."""
        before = self._sim.in_flight.copy()
        self._sim.request("web")
        (instance,) = self._sim.in_flight - before
        return instance

    async def hold(self) -> Held:
        """One more in flight than will be answered by itself."""
        instance = await self.ask()
        self._sim.in_flight[instance] += 1

        async def let_go() -> None:
            self._sim.in_flight[instance] -= 1

        return Held(instance, let_go)

    async def until(self, condition: Callable[[], object]) -> None:
        """From event to event."""
        end = self._line.time + PATIENCE_SECONDS
        while not condition():
            assert self._line.time < end, self.traffic.observe()
            self._line.after(0.05, lambda: None)
            self._line.run_next()

    async def a_while(self) -> None:
        """Half a minute, which takes no time."""
        end = self._line.time + 30.0
        await self.until(lambda: self._line.time >= end)

    def play(self, scenario: Callable[[Bench], Awaitable[None]]) -> None:
        """Nothing to open."""

        async def whole() -> None:
            await scenario(self)

        asyncio.run(whole())
