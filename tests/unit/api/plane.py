"""A control plane over a simulated machine room, whose time goes on when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.adapters import Behaviour, SimBuilder, SimEngine, SimTraffic, Timeline
from simulation.outside import SimOutside

from volery.api.logs import LogLine
from volery.api.places import LogQuery
from volery.control.controller import Controller, Ports
from volery.control.operations import Operations
from volery.control.specs import instance_spec
from volery.model.application import Application, Service
from volery.model.errors import Code, VoleryError
from volery.store.memory import MemoryStore

APP = {
    "app": "birds",
    "gateway": {"port": 8080, "routes": [{"path": "/", "service": "shop"}]},
    "services": {
        "shop": {"run": "serve", "scale": 2, "needs": ["catalog"]},
        "catalog": {"run": "serve"},
    },
}


@dataclass(frozen=True)
class FakeArtifact:
    digest: str


class FakeSources:
    """Sources whose digest a test can change."""

    def __init__(self) -> None:
        self.version = "aaaaaaaa"
        self.versions: dict[str, str] = {}
        """Of single services, instead of everybody's."""

    async def prepare(
        self, name: str, service: Service, root: Path, without: Collection[Path]
    ) -> FakeArtifact:
        return FakeArtifact(await self.digest(name, service, root, without))

    async def digest(
        self, name: str, service: Service, root: Path, without: Collection[Path]
    ) -> str:
        return self.versions.get(name, self.version)


class FakeSecrets:
    def versions(self, names: tuple[str, ...]) -> Mapping[str, int]:
        return {name: 1 for name in names if name == "KNOWN"}


def release_id(name: str, artifact: str, spec: Service, secrets: Mapping[str, int]) -> str:
    return f"{name}@{artifact}"


class SimPlane:
    """A control plane whose time goes on when the test says so."""

    def __init__(self) -> None:
        self.line = Timeline(1)
        engine = SimEngine(self.line, lambda release: Behaviour())
        self.engine = engine
        self.traffic = SimTraffic(self.line, engine)
        self.bad: dict[str, str] = {}
        """What goes wrong with a release: tests or build."""
        self.builder = SimBuilder(self.line, lambda release: self.bad.get(release, ""))
        self.store = MemoryStore()
        self.outside = SimOutside(self.line)
        ports = Ports(self.store, engine, self.traffic, self.builder, self.outside, self.line)
        edge = self.traffic.edge_port
        self.controller = Controller(
            ports, lambda world, item: instance_spec(world, item, Path("/x"), edge, lambda _: {})
        )
        self.sources = FakeSources()
        self.operations = Operations(
            self.controller, self.sources, FakeSecrets(), release_id, lambda: None
        )
        self.stopping = asyncio.Event()
        self.asked_of_logs: LogQuery | None = None
        self._beat()

    def _beat(self) -> None:
        self.line.after(0.1, self._beat)

    def run(self, seconds: float = 8.0) -> None:
        end = self.line.time + seconds
        while self.line.time < end:
            self.line.run_next()
            while self.controller.tick():
                pass

    def processes(self) -> dict[str, Any]:
        return {"control_plane": 1, "envoy": [2], "shims": []}

    def gateway_ready(self) -> bool:
        return True

    def check_gateway(self, host: str, port: int) -> None:
        if port == 1:
            raise VoleryError("port 1 is in use", code=Code.CONFLICT)

    async def replace_gateway(self) -> None:
        raise VoleryError("no Envoy here")

    async def changed(self, seconds: float) -> None:
        self.stopping.set()

    async def logs(self, service: str, query: LogQuery) -> AsyncIterator[LogLine]:
        self.asked_of_logs = query
        yield LogLine(0.0, f"{service}-1", "hello")


def body(**more: Any) -> dict[str, Any]:
    application = Application.model_validate(APP).model_dump(mode="json")
    return {"application": application, "environment": "dev", "root": "/src"} | more
