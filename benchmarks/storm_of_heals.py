"""A storm of heals: many instances die at once, and what the guard makes of it, on virtual time.

The real controller, decisions and store; engine, data plane and time are simulated, so a size is a
matter of patience. Every hundredth service hangs instead of dying: a hung instance still counts as
ready, so taking it away is what the guard is asked about. Prints how many start at once, how many
are disturbed at once, when all is whole again, and what a look costs the control plane.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from benchmarks.options import Options, say
from benchmarks.results import Table
from benchmarks.room import EACH, IdleEngine, Room
from volery.decide.capacity import capacities
from volery.decide.guard import policy_of
from volery.model.ports import Exit, InstanceSpec, Observation

START_SECONDS = 0.5
STOP_SECONDS = 0.2
LOOK_SECONDS = 1.0
HANG_EVERY = 100
LIMIT_SECONDS = 3600.0


@dataclass
class Stage:
    """Virtual time and what happens in it."""

    time: float = 0.0
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen later."""
        self._count += 1
        heapq.heappush(self._due, (self.time + seconds, self._count, act))

    def wait(self, seconds: float) -> None:
        """Until something has happened, as what wakes the control plane; or for so long."""
        moment = min(self.time + seconds, self._due[0][0] if self._due else self.time + seconds)
        while self._due and self._due[0][0] <= moment:
            self.time, _, act = heapq.heappop(self._due)
            act()
        self.time = moment

    def now(self) -> float:
        """Unix seconds."""
        return 1_800_000_000.0 + self.time

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self.time


class StormEngine(IdleEngine):
    """Instances that take a while to start and to stop, and die or hang when told."""

    def __init__(self, stage: Stage, observed: dict[str, Observation]) -> None:
        super().__init__(observed)
        self.stage = stage
        self.most_starting = 0

    def observe(self) -> Mapping[str, Observation]:
        """What is known of each."""
        return dict(self.observed)

    def start(self, spec: InstanceSpec) -> None:
        """It is ready a little later."""
        if spec.id in self.observed:
            return
        seen = Observation(spec.id, "starting", "127.0.0.2:1")
        self.observed[spec.id] = seen
        starting = sum(item.state == "starting" for item in self.observed.values())
        self.most_starting = max(self.most_starting, starting)
        self.stage.after(START_SECONDS, lambda: self._become(spec.id, "ready"))

    def stop(self, instance: str, at_once: bool = False) -> None:
        """It has ended a little later."""
        if self.observed[instance].state != "stopping":
            self._become(instance, "stopping")
            self.stage.after(STOP_SECONDS, lambda: self.die(instance))

    def kill(self, instance: str) -> None:
        """It has ended."""
        self.die(instance)

    def forget(self, instance: str) -> None:
        """Nothing of it is left."""
        self.observed.pop(instance, None)

    def die(self, instance: str) -> None:
        """It ends, and nothing restarts it."""
        ended = replace(self.observed[instance], state="exited", exit=Exit(signal="SIGKILL"))
        self.observed[instance] = ended

    def hang(self, instance: str) -> None:
        """It looks ready, and does not live."""
        hung = replace(self.observed[instance], alive=False, detail="liveness probe timed out")
        self.observed[instance] = hung

    def _become(self, instance: str, state: str) -> None:
        if instance in self.observed:
            self.observed[instance] = replace(self.observed[instance], state=state)  # type: ignore[arg-type]


@dataclass
class Storm:
    """What was seen while it lasted."""

    dead: int
    hung: int
    seconds: float = 0.0
    starting: int = 0
    disturbed: int = 0
    limit: int = 0
    looks: list[float] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """As a line of the table."""
        ordered = sorted(self.looks)
        ms = [1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 1.0)]
        found = (self.dead, self.hung, self.starting, f"{self.disturbed} of {self.limit}")
        cells = (*found, f"{self.seconds:.1f}", f"{ms[0]:.0f}", f"{ms[1]:.0f}")
        return tuple(str(cell) for cell in cells)


def measure(options: Options) -> Table:
    """Everything dies at once, at each size."""
    sizes = (100, 1000) if options.quick else (100, 1000, 10_000)
    storms = []
    for size in sizes:
        say(f"storm-of-heals: {size} instances")
        storms.append(storm(size))
    columns = (
        "died", "hang", "most starting", "most disturbed", "all whole, virtual s",
        "a look, ms", "longest look, ms",
    )  # fmt: skip
    return Table(columns, [item.row() for item in storms], (_note(),))


def _note() -> str:
    return (
        f"An instance takes {START_SECONDS:g} s to start and {STOP_SECONDS:g} s to stop (virtual);"
        f" at most 32 may start at once (`guard.starts`), so 32 every {START_SECONDS:g} s is"
        " as quick as it can be. A look, until nothing changes any more, is real time here."
    )


def storm(size: int) -> Storm:
    """All instances of all services but every hundredth die; those hang."""
    room = Room(size // EACH)
    stage = Stage()
    engine = StormEngine(stage, room.engine.observed)
    room.controller.ports = replace(room.controller.ports, engine=engine, clock=stage)
    room.settle()
    found = _strike(room, engine)
    while stage.time < LIMIT_SECONDS:
        began = time.perf_counter()
        for _ in range(50):
            if not room.controller.tick():
                break
        found.looks.append(time.perf_counter() - began)
        if _watch(room, engine, found):
            found.seconds = stage.time
            return found
        stage.wait(LOOK_SECONDS)
    raise RuntimeError(f"{size} instances were not whole after {LIMIT_SECONDS:g} s")


def _strike(room: Room, engine: StormEngine) -> Storm:
    services = sorted(room.application.services)
    hang = {name for place, name in enumerate(services) if place % HANG_EVERY == 0}
    instances = sorted(room.controller.draft().world.instances.values(), key=lambda item: item.id)
    for item in instances:
        engine.hang(item.id) if item.service in hang else engine.die(item.id)
    hung = sum(item.service in hang for item in instances)
    return Storm(len(instances) - hung, hung)


def _watch(room: Room, engine: StormEngine, found: Storm) -> bool:
    """Note the worst; whether every service has its size and nobody is on the way out."""
    world = room.controller.draft().world
    found.starting = max(found.starting, engine.most_starting)
    found.disturbed = max(found.disturbed, len(world.guard.disturbed))
    served = capacities(world)
    ready = sum(min(len(item.serving), item.needed) for item in served.values())
    limit = max(1, int(policy_of(world).at_once * (ready + len(world.guard.disturbed))))
    found.limit = max(found.limit, limit)
    whole = all(item.missing() == 0 for item in served.values())
    return whole and all(item.intent == "run" for item in world.instances.values())
