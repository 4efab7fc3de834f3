"""The machine room of every history: a controller, ports on virtual time, and what can break them.

A *history* is seeded: what people do and which faults happen is drawn from one random source, so it
replays exactly. What there is to run, who does what and what must hold is each history's own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

from simulation.adapters import (
    Crash,
    Fuse,
    Fused,
    SimBuilder,
    SimEngine,
    SimTraffic,
    Timeline,
    Violation,
)
from simulation.outside import SimOutside
from volery.control.controller import Controller, Ports
from volery.control.draft import Draft
from volery.control.rollouts import supersede
from volery.control.specs import instance_spec
from volery.decide import submit
from volery.decide.plan import make_plan
from volery.decide.submit import Order
from volery.decide.world import World
from volery.model.application import Application
from volery.model.errors import VoleryError
from volery.model.ports import InstanceSpec
from volery.model.state import EnvironmentState, Instance, Release
from volery.store.memory import MemoryStore

HOME = Path("/sim")
STORE = frozenset({"commit"})
ENGINE = frozenset({"start", "stop", "kill", "settle", "forget", "command"})
TRAFFIC = frozenset({"apply"})


class Room(ABC):
    """One environment; subclasses make `engine`, `traffic`, `builder` and `application`, and then
    `_open`."""

    engine: SimEngine
    traffic: SimTraffic
    builder: SimBuilder
    application: Application
    faults_until: float
    timer_seconds = 1.0
    ticks = 60
    """Ticks after which a controller that still changes something does not come to rest."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.line = Timeline(seed)
        self.random = self.line.random
        self.outside = SimOutside(self.line)
        self.memory = MemoryStore()
        self.fuse = Fuse()
        self.story: list[str] = []
        self._woken = False

    def _open(self) -> None:
        self.controller = self._new_controller()
        for port in (self.engine, self.traffic, self.builder, self.outside):
            port.wake = self._wake

    def _new_controller(self) -> Controller:
        ports = Ports(
            store=Fused(self.memory, self.fuse, STORE),  # type: ignore[arg-type]
            engine=Fused(self.engine, self.fuse, ENGINE),  # type: ignore[arg-type]
            traffic=Fused(self.traffic, self.fuse, TRAFFIC),  # type: ignore[arg-type]
            builder=self.builder,
            outside=self.outside,
            clock=self.line,
        )
        return Controller(ports, self._spec)

    def _spec(self, world: World, instance: Instance) -> InstanceSpec:
        return instance_spec(world, instance, HOME, self.traffic.edge_port, lambda _: {})

    def world(self) -> World:
        """Everything as it is remembered and seen now, without what the controller keeps of it."""
        return Draft(self.memory, self.line.now(), self.engine.observe()).world

    # --- the loop ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._woken and self.random.random() > 0.05:  # some wake-ups are lost
            self._woken = True
            self.line.after(0.001, self._tick)

    def _timer(self) -> None:
        self._tick()
        self.line.after(self.timer_seconds, self._timer)

    def _tick(self) -> None:
        self._woken = False
        try:
            for _ in range(self.ticks):
                if not self.controller.tick():
                    break
            else:
                raise Violation("the controller does not come to rest")
        except Crash:
            self.restart_control_plane()
        except VoleryError as error:
            self._tell(f"tick failed: {error.message}")
        self.check()

    def restart_control_plane(self) -> None:
        self._tell("control plane died")
        self.builder.forget()
        self.outside.forget()
        self.traffic.new_control_plane()
        self.controller = self._new_controller()
        self.line.after(self.random.uniform(0.05, 3), self._wake)

    def _tell(self, text: str) -> None:
        self.story.append(f"{self.line.time:8.3f} {text}")

    # --- people and faults ------------------------------------------------------------------------

    def _submit(self, releases: Iterable[Release], only: set[str] | None, cause: str) -> None:
        """What `up` or `deploy` does with these releases."""
        draft = self.controller.draft()
        made = {release.service: release for release in releases}
        plan = make_plan(draft.world, self.application, made, only)
        order = Order(cause, "sim", draft.now)
        found = submit.submit(draft.world, self.application, plan, made, order)
        draft.put("environment", "environment", EnvironmentState(self.application, "dev", "/src"))
        for release in found.releases:
            self.builder.cancel(release.id)
            draft.put("release", release.id, release)
        for service in found.services:
            draft.put("service", service.name, service)
        for old, new in found.superseded:
            supersede(draft, old, new)
        for rollout in found.rollouts:
            draft.put("rollout", rollout.id, rollout)
        draft.commit()

    def _some_fault(self, kinds: list[Callable[[], None]], soonest: float, latest: float) -> None:
        """One of these now, and another one later while there are faults."""
        self.random.choice(kinds)()
        if self.line.time < self.faults_until:
            wait = self.random.uniform(soonest, latest)
            self.line.after(wait, lambda: self._some_fault(kinds, soonest, latest))

    def _crash_soon(self) -> None:
        self.fuse.crash_in = self.random.randint(1, 12)

    def _disk_full(self) -> None:
        self.fuse.disk_full = True
        self.line.after(self.random.uniform(0.5, 5), self._disk_free)

    def _disk_free(self) -> None:
        self.fuse.disk_full = False

    def _jump(self) -> None:
        self.line.jump += self.random.choice([-3600.0, 3600.0, 86400.0])
        self._tell("the clock jumped")

    # --- the whole of it --------------------------------------------------------------------------

    @abstractmethod
    def check(self) -> None:
        """Raises Violation if something does not hold that must hold at every step."""

    @abstractmethod
    def check_converged(self) -> None:
        """Raises Violation unless everything is as the documents say; asked after the last
        fault."""

    @abstractmethod
    def _live(self) -> None:
        """All that happens, the time after the last fault included."""

    def play(self) -> None:
        """The whole history. Raises Violation with the seed and the end of the story."""
        try:
            self._live()
        except (Violation, AssertionError) as error:
            told = "\n".join([*self.story[-25:], *self._last_events()])
            raise Violation(f"seed {self.seed}: {error}\n{told}") from error

    def _last_events(self) -> list[str]:
        began = self.line.now() - self.line.time
        return [
            f"{event.at - began:8.3f} {event.kind} {event.text}"
            for event in self.memory.events(limit=10**6)[-10:]
        ]

    def _calm(self) -> None:
        """No more faults of ours."""
        self.fuse.crash_in, self.fuse.disk_full = None, False

    def _rest(self, seconds: float) -> None:
        """Everything must come to rest in this time, and be at rest a little later too."""
        deadline = self.line.time + seconds
        while True:
            self._until(self.line.time + 5)
            try:
                self.check_converged()
                self._until(self.line.time + 2)
                return self.check_converged()
            except Violation:
                if self.line.time > deadline:
                    raise

    def _until(self, time: float) -> None:
        self.line.run_until(time)


def histories(percent: int) -> int:
    """How many histories of a kind are played, of `VOLERY_HISTORIES` (2,000) of all kinds."""
    return int(os.environ.get("VOLERY_HISTORIES", "2000")) * percent // 100


def batches(percent: int, size: int) -> list[range]:
    """The seeds of all histories of a kind, at most so many together. Each batch is one test of a
    few seconds: workers share the work evenly only if none has a long one left at the end."""
    total = histories(percent)
    count = -(-total // size)
    return [range(first, total, count) for first in range(count)]


def violation_of(history: Room) -> str | None:
    """Play a history; what was violated, as text, or None."""
    try:
        history.play()
    except Violation as violation:
        return str(violation)
    return None


def first_violation(history: Callable[[int], Room], seeds: Iterable[int]) -> str | None:
    """What the first history that goes wrong says."""
    found = (violation_of(history(seed)) for seed in seeds)
    return next((item for item in found if item), None)
