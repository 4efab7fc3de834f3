"""Engines to hold against the port: the local one with real processes, and the simulated one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Protocol

from integration.engine.lab import Lab, until
from simulation.adapters import Behaviour, SimEngine, Timeline

from volery.model.application import Health, Probe, Resources, Stop
from volery.model.ports import Engine, InstanceSpec, Observation

Kind = Literal["good", "crash", "never-ready"]
CODE: dict[str, tuple[str, ...]] = {
    "good": (),
    "crash": ("import sys; [print('word', n) for n in range(50)]; sys.exit(1)",),
    "never-ready": ("import time; time.sleep(1000)",),
}
PATIENCE_SECONDS = 60.0


class Bench(Protocol):
    """An engine, what its instances do, and time."""

    wakes: list[int]

    @property
    def engine(self) -> Engine:
        """What is held against the port."""

    def spec(self, identity: str, kind: Kind = "good") -> InstanceSpec:
        """An instance that behaves so."""

    async def until(self, condition: Callable[[], object]) -> None:
        """Let time go on until a condition holds."""

    async def a_while(self) -> None:
        """Time enough for what must not happen."""

    async def settled(self, identity: str) -> None:
        """`settle`, and carried out."""

    def kill(self, identity: str) -> None:
        """Its process ends without being asked."""

    def hang(self, identity: str) -> None:
        """Its process runs and answers nobody."""

    def play(self, scenario: Callable[[Bench], Awaitable[None]]) -> None:
        """The scenario, with the engine open; nothing of it is left afterwards."""


class LocalBench:
    """Real processes."""

    def __init__(self, folder: Path) -> None:
        (folder / "work").mkdir()
        self._lab = Lab(folder / "home", folder / "work")
        self._engine = self._lab.engine()
        self.wakes = self._lab.wakes

    @property
    def engine(self) -> Engine:
        """The local engine."""
        return self._engine

    def spec(self, identity: str, kind: Kind = "good") -> InstanceSpec:
        """Python that serves, prints and ends, or sleeps."""
        live = Probe(path="/")
        health = Health(every=0.05, timeout=0.5, failures=2, ready=live, live=live)
        return self._lab.spec(identity, *CODE[kind], health=health)

    async def until(self, condition: Callable[[], object]) -> None:
        """Look again and again."""
        await until(condition, lambda: str(self.engine.observe()))

    async def a_while(self) -> None:
        """Longer than the first restart of a settled instance would take."""
        await asyncio.sleep(0.4)

    async def settled(self, identity: str) -> None:
        """Its shim has heard it."""
        self.engine.settle(identity)
        await self.until(lambda: self._lab.restarts(identity))

    def kill(self, identity: str) -> None:
        """kill -9."""
        os.kill(self._pid(identity), signal.SIGKILL)

    def hang(self, identity: str) -> None:
        """Stopped, not ended."""
        os.kill(self._pid(identity), signal.SIGSTOP)

    def _pid(self, identity: str) -> int:
        pid = self.engine.observe()[identity].pid
        assert pid is not None
        return pid

    def play(self, scenario: Callable[[Bench], Awaitable[None]]) -> None:
        """Open, play, close; whatever runs then ends."""

        async def whole() -> None:
            await self._engine.open()
            try:
                await scenario(self)
            finally:
                await self._engine.close()

        try:
            asyncio.run(whole())
        finally:
            self._lab.end()


class SimBench:
    """Virtual time."""

    def __init__(self, _: Path) -> None:
        self._line = Timeline(1)
        self._sim = SimEngine(self._line, lambda release: Behaviour(release.partition("@")[2]))
        self.wakes: list[int] = []
        self._sim.wake = lambda: self.wakes.append(1)

    @property
    def engine(self) -> Engine:
        """The simulated engine."""
        return self._sim

    def spec(self, identity: str, kind: Kind = "good") -> InstanceSpec:
        """The kind is in the name of the release."""
        return InstanceSpec(
            id=identity,
            service="web",
            release=f"web@{kind}",
            command=("serve",),
            directory="/src",
            environment={},
            protocol="http",
            health=Health(),
            resources=Resources(),
            stop=Stop(),
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """From event to event."""
        end = self._line.time + PATIENCE_SECONDS
        while not condition():
            assert self._line.time < end, self.engine.observe()
            self._line.after(0.05, lambda: None)
            self._line.run_next()

    async def a_while(self) -> None:
        """Half a minute, which takes no time."""
        end = self._line.time + 30.0
        await self.until(lambda: self._line.time >= end)

    async def settled(self, identity: str) -> None:
        """At once."""
        self.engine.settle(identity)

    def kill(self, identity: str) -> None:
        """Ends with the code of a killed process."""
        self._sim.exit(identity, 137)

    def hang(self, identity: str) -> None:
        """As its liveness probe would see it."""
        self._sim.hang(identity)

    def play(self, scenario: Callable[[Bench], Awaitable[None]]) -> None:
        """Nothing to open."""
        asyncio.run(_awaited(scenario(self)))


async def _awaited(work: Awaitable[None]) -> None:
    await work


def seen(bench: Bench, identity: str) -> Observation:
    """What the engine says of an instance now."""
    return bench.engine.observe()[identity]
