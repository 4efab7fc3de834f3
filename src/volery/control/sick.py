"""What is gathered about each instance between looks: evidence against it, and its memory.

Fed with the ticks of `control.evidence` and with what the engine measures; asked by
`control.healing`. Also says which services are worth a closer look: the counters of those where
requests flow to more than one instance, and the memory of those that near their limit. What is idle
costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from volery.decide import leaks, outliers
from volery.decide.evidence import Tick
from volery.decide.outliers import Watched, warm_after
from volery.decide.world import World
from volery.model.evidence import Arm
from volery.model.healing import Ailment
from volery.model.state import ServiceState

BUSY_SECONDS = 30.0
"""So long after the last request a service is looked at often."""
HORIZON_SECONDS = 20.0
"""How much sooner a leaking instance goes than its successor needs to start, and it to drain."""

Points = deque[tuple[float, float]]


class Evidence:
    """Evidence about instances."""

    def __init__(self) -> None:
        self._watched: dict[tuple[str, str], Watched] = {}
        self._outliers: dict[tuple[str, str], Mapping[str, Ailment]] = {}
        self._ready_since: dict[str, float] = {}
        self._busy: dict[str, float] = {}
        self._memory: dict[str, Points] = {}
        self._near: dict[str, set[str]] = {}

    # --- what requests say ------------------------------------------------------------------------

    def take(self, world: World, service: ServiceState, tick: Tick, monotonic: float) -> None:
        """Take in what the instances of a service did since the last look. How fast one answers
        counts once it has been ready for long enough not to be cold any more. A primary and its
        replicas have other things to do, so they are not compared."""
        cold = self._cold(world, service, monotonic)
        if not any(arm.requests for arm in tick.instances.values()):
            return
        self._busy[service.name] = monotonic
        for slot in service.slots:
            arms = {
                item.id: Arm(
                    arm.requests,
                    arm.failures,
                    {} if item.id in cold else tick.served.get(item.id, {}),
                )
                for item in world.instances_of(service.name, slot)
                if item.intent == "run" and not item.withheld and world.ready(item)
                if not world.has_roles(item)
                for arm in (tick.instances.get(item.id, Arm()),)
            }
            key = (service.name, slot)
            if len(arms) < 2:
                self._drop(key)
                continue
            before = self._watched.get(key, Watched())
            self._watched[key] = after = outliers.look(before, arms, tick.seconds)
            self._outliers[key] = outliers.outliers(after)

    def _cold(self, world: World, service: ServiceState, monotonic: float) -> set[str]:
        found = set()
        for item in world.instances_of(service.name):
            seen = world.observed.get(item.id)
            if seen is None or seen.state == "starting":
                self._ready_since.pop(item.id, None)
                continue
            since = self._ready_since.setdefault(item.id, monotonic)
            if monotonic - since < warm_after(service.config.deploy):
                found.add(item.id)
        return found

    def outliers(self, service: str) -> dict[str, Ailment]:
        """By instance, those that serve worse than their siblings."""
        found: dict[str, Ailment] = {}
        for (name, _), ailments in self._outliers.items():
            if name == service:
                found |= ailments
        return found

    def forget(self, service: str) -> None:
        """Gather evidence anew: the group is about to be another one."""
        for key in [key for key in self._watched if key[0] == service]:
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        self._watched.pop(key, None)
        self._outliers.pop(key, None)

    def busy(self, world: World, monotonic: float) -> frozenset[str]:
        """The services whose counters are worth reading often."""
        return frozenset(
            name
            for name, at in self._busy.items()
            if monotonic - at <= BUSY_SECONDS
            and name in world.services
            and len(world.instances_of(name)) > 1
        )

    # --- what memory says -------------------------------------------------------------------------

    def measure(self, world: World) -> None:
        """Take in the newest measurements of memory, where there is a limit to reach. What an
        instance loads while it starts says nothing about what it will need."""
        self._near = {}
        for known in (self._memory, self._ready_since):
            for gone in known.keys() - world.instances.keys():
                del known[gone]
        for item in world.instances.values():
            seen = world.observed.get(item.id)
            if seen is None or seen.memory is None or seen.measured_at is None:
                continue
            limit = self._limit(world, item.release)
            if limit is None:
                continue
            if seen.state == "starting":
                self._memory.pop(item.id, None)
                continue
            points = self._memory.setdefault(item.id, deque(maxlen=leaks.KEPT))
            if points and (seen.memory < points[-1][1] / 2 or seen.measured_at < points[-1][0]):
                points.clear()  # another process
            if not points or seen.measured_at > points[-1][0]:
                points.append((seen.measured_at, float(seen.memory)))
            if seen.memory >= leaks.HALF * limit:
                self._near.setdefault(item.service, set()).add(item.id)

    def leaks(self, world: World, service: ServiceState) -> Mapping[str, Ailment]:
        """By instance, those whose memory will soon be at its limit."""
        found = {}
        for identity in self._near.get(service.name, ()):
            item = world.instances[identity]
            spec = world.releases[item.release].spec
            limit = spec.resources.memory
            assert limit is not None
            horizon = spec.health.startup + HORIZON_SECONDS
            ailment = leaks.leaking(identity, list(self._memory[identity]), limit, horizon)
            if ailment is not None:
                found[identity] = ailment
        return found

    @property
    def filling(self) -> frozenset[str]:
        """The services whose memory is worth measuring often."""
        return frozenset(self._near)

    @staticmethod
    def _limit(world: World, release: str) -> int | None:
        found = world.releases.get(release)
        return found.spec.resources.memory if found else None
