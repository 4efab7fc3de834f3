"""A simulated environment of any size: documents, observations, and ports that do nothing.

Services stand in a ring, each calling the next, so that there is an edge for every service; all
instances are ready. Only Envoy's side is real where `xds` asks for it; the addresses are nobody's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from volery.control.controller import Controller, Ports
from volery.decide.routes import EdgePort, traffic_config
from volery.decide.world import World
from volery.model.application import Application
from volery.model.evidence import Sample
from volery.model.ports import (
    Answer,
    BuildStatus,
    Change,
    GateCall,
    InstanceSpec,
    MetricCall,
    Observation,
    RoleWatch,
    SideCommand,
    SyntheticCall,
    TrafficConfig,
    TrafficStatus,
)
from volery.model.state import (
    EnvironmentState,
    Instance,
    Release,
    ServiceState,
    Slot,
    SlotName,
    Track,
)
from volery.store.memory import MemoryStore

EACH = 10
FIRST_PORT, LAST_PORT = 10_000, 65_000


@dataclass
class IdleEngine:
    """Knows its instances; starts and stops nothing."""

    observed: dict[str, Observation]

    def observe(self) -> Mapping[str, Observation]:
        """A copy, as the real one gives."""
        return dict(self.observed)

    def attend(self, services: frozenset[str]) -> None:
        """It measures nothing."""

    def start(self, spec: InstanceSpec) -> None:
        """It runs already."""

    def settle(self, instance: str) -> None:
        """It is."""

    def stop(self, instance: str) -> None:
        """Nobody stops here."""

    def kill(self, instance: str) -> None:
        """Nobody is killed here."""

    def watch_roles(self, services: Mapping[str, RoleWatch]) -> None:
        """Nobody has one."""

    def command(self, instance: str, key: str, command: SideCommand) -> None:
        """Nothing runs."""

    def forget(self, instance: str) -> None:
        """Nobody is forgotten here."""

    def tail(self, instance: str, lines: int = 20) -> Sequence[str]:
        """Nothing was written."""
        return ()

    def ready(self, instance: str, ready: bool) -> None:
        """One instance becomes ready, or unready."""
        seen = self.observed[instance]
        self.observed[instance] = replace(seen, state="ready" if ready else "unready")


@dataclass
class IdleTraffic:
    """Has acknowledged everything at once, and hands out ports in order."""

    applied: TrafficConfig | None = None
    generation: int = 0
    ports: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def apply(self, config: TrafficConfig, generation: int) -> None:
        """Note it."""
        self.applied, self.generation = config, generation

    def observe(self) -> TrafficStatus:
        """All is well."""
        return TrafficStatus(self.generation, sampled=self.generation, proxies=(1,), ready=True)

    def edge_port(self, caller: str, slot: SlotName, need: str) -> int:
        """The next one."""
        return self.ports.setdefault((caller, slot, need), FIRST_PORT + len(self.ports))

    def attend(self, services: frozenset[str]) -> None:
        """Nobody looks."""

    def sample(self) -> Sample:
        """Nothing was counted."""
        return Sample()


class IdleBuilder:
    """Builds nothing."""

    def request(self, release: Release, skip_tests: bool) -> None:
        """There is nothing to build."""

    def observe(self) -> Mapping[str, BuildStatus]:
        """Nothing was asked for."""
        return {}

    def cancel(self, release: str) -> None:
        """Nothing is under way."""


class NobodyOutside:
    """Is asked nothing."""

    def wish(self, calls: Mapping[str, GateCall | MetricCall | SyntheticCall]) -> None:
        """There are no rollouts that would ask."""

    def observe(self) -> Mapping[str, Answer]:
        """Nothing was asked."""
        return {}


class Clock:
    """The machine's time."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class Room:
    """An environment of `size` services, each with ten ready instances, and its controller."""

    def __init__(self, size: int) -> None:
        names = [f"service-{number:04d}" for number in range(size)]
        self.application = _application(names)
        self.engine = IdleEngine({})
        self.traffic = IdleTraffic()
        store = MemoryStore()
        store.commit(self._documents(), ())
        ports = Ports(store, self.engine, self.traffic, IdleBuilder(), NobodyOutside(), Clock())
        self.controller = Controller(ports, _spec)
        self.some_instance = f"{names[size // 2]}-1-1"

    def config(self, edge_port: EdgePort) -> TrafficConfig:
        """What the data plane should do now, with edges on these ports."""
        return traffic_config(self.controller.draft().world, edge_port)

    def settle(self) -> None:
        """Look and act until nothing changes any more."""
        while self.controller.tick():
            pass

    def _documents(self) -> list[Change]:
        environment = EnvironmentState(self.application, "dev", "/")
        changes = [Change("environment", "environment", environment)]
        for number, (name, config) in enumerate(self.application.services.items()):
            release = Release(f"{name}@1", name, "1", config, 0.0, state="live")
            slots: dict[SlotName, Slot | None] = {
                "a": Slot(release.id, Track.STABLE, EACH, 100),
                "b": None,
            }
            changes.append(Change("release", release.id, release))
            changes.append(Change("service", name, ServiceState(name, config, EACH, slots)))
            for ordinal in range(1, EACH + 1):
                item = f"{name}-1-{ordinal}"
                port = FIRST_PORT + (number * EACH + ordinal) % (LAST_PORT - FIRST_PORT)
                self.engine.observed[item] = Observation(item, "ready", f"127.0.0.2:{port}", 1)
                made = Instance(item, name, "a", release.id, "run", 0.0, 0.0, proven=True)
                changes.append(Change("instance", item, made))
        return changes


def _application(names: Sequence[str]) -> Application:
    return Application.model_validate(
        {
            "app": "bench",
            "gateway": {"port": 8080, "routes": [{"path": "/", "service": names[0]}]},
            "services": {
                name: {"run": "true", "scale": EACH, "needs": [names[(place + 1) % len(names)]]}
                for place, name in enumerate(names)
            },
        }
    )


def _spec(world: World, instance: Instance) -> InstanceSpec:
    service = world.releases[instance.release].spec
    return InstanceSpec(
        instance.id,
        instance.service,
        instance.release,
        ("true",),
        "/",
        {},
        "http",
        service.health,
        service.resources,
        service.stop,
    )
