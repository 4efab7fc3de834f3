"""Histories about the guard: many services, strategies that disturb, tight budgets, everybody at
once; and the guard's promises counted without asking it.

An *outage* is an instance that was in rotation at one look and is on its way out at the next,
though nothing of ours had a replacement for it. What is counted here comes from the documents, the
engine and the manifest alone; `decide.guard` and `decide.capacity` are not imported.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulation.adapters import Violation
from simulation.history import History
from simulation.room import violation_of
from volery.decide.world import World
from volery.model.application import Application
from volery.model.budget import Guard
from volery.model.state import Phase, ServiceState

PATIENCE = 45.0
"""A replacement that takes longer has failed: the guard need not count it any more."""


@dataclass
class Outage:
    """A needed instance that was taken away."""

    service: str
    at: float
    harmed: bool
    excused: bool


class Watcher:
    """Counts who is disturbed, from outside."""

    def __init__(self) -> None:
        self.rotation: dict[str, set[str]] = {}
        self.outages: list[Outage] = []
        self.most = 0

    def look(self, world: World, policy: Guard, now: float) -> None:
        """Raises Violation if a promise is broken."""
        serving = {name: _in_rotation(world, item) for name, item in world.services.items()}
        new = self._new_outages(world, serving, now)
        for name, service in world.services.items():
            self._check_floor(world, service, serving[name], [o for o in new if o.service == name])
        self._recover(world, serving, now)
        ready = sum(min(world.services[name].scale, len(item)) for name, item in serving.items())
        before = sum(not item.excused for item in self.outages)
        self.outages += new
        counted = [item for item in self.outages if not item.excused]
        limit = max(1, int(policy.at_once * (ready + len(self.outages))))
        if len(counted) > limit and any(not item.excused for item in new) and before:
            raise Violation(f"{len(counted)} instances are disturbed, {limit} may be: {counted}")
        self.most = max(self.most, len(counted))
        self.rotation = serving

    def _new_outages(self, world: World, serving: dict[str, set[str]], now: float) -> list[Outage]:
        found: list[Outage] = []
        for name, before in self.rotation.items():
            service = world.services.get(name)
            if service is None or _leaves(world, service):
                continue
            gone = [
                world.instances[item]
                for item in before - serving[name]
                if item in world.instances and world.instances[item].intent != "run"
            ]
            taken = [item for item in gone if world.ready(item)]
            missing = max(0, service.scale - len(serving[name]))
            excused = _is_excused(world, service)
            counted = taken[: max(0, missing - self._known(name))]
            found += [Outage(name, now, bool(item.condemned), excused) for item in counted]
        return found

    def _known(self, name: str) -> int:
        return sum(item.service == name for item in self.outages)

    def _recover(self, world: World, serving: dict[str, set[str]], now: float) -> None:
        """An outage is over when its service has its size, and after a while anyway."""
        left: list[Outage] = []
        for name, service in world.services.items():
            mine = [o for o in self.outages if o.service == name and now - o.at < PATIENCE]
            missing = max(0, service.scale - len(serving[name]))
            left += mine[len(mine) - min(len(mine), missing) :]
        self.outages = left

    def _check_floor(
        self, world: World, service: ServiceState, serving: set[str], new: list[Outage]
    ) -> None:
        """Nobody takes a service below its floor, or away altogether."""
        if not new or _is_excused(world, service) or all(item.harmed for item in new):
            return
        wished = 1 if service.config.floor is None else service.config.floor
        deploy = service.config.deploy
        removes_first = deploy.surge == 0 or deploy.strategy == "recreate"
        one_by_one = removes_first or service.config.state is not None
        floor = max(0, min(wished, service.scale - one_by_one))
        if len(serving) < floor:
            raise Violation(f"{service.name}: {len(serving)} ready, its floor is {floor}")


def _in_rotation(world: World, service: ServiceState) -> set[str]:
    weights = {name: slot.weight for name, slot in service.slots.items() if slot}
    ready = [
        item
        for item in world.instances_of(service.name)
        if item.intent == "run" and world.ready(item)
    ]
    weighted = {item.id for item in ready if weights.get(item.slot)}
    return weighted or {item.id for item in ready}


def _leaves(world: World, service: ServiceState) -> bool:
    return service.removing or service.scale == 0


def _is_excused(world: World, service: ServiceState) -> bool:
    """Its owner accepts a gap, or it goes back: the guard lets such requests pass as one."""
    rollout = world.rollout_of(service.name)
    alone = service.config.state is not None and service.scale == 1
    if rollout is None:
        return alone
    return alone or rollout.strategy == "recreate" or rollout.phase is Phase.ROLLING_BACK


class GuardedHistory(History):
    """Many services that are changed by removing before adding, and a tight budget."""

    def _application(self) -> Application:
        pick, chance = self.random.choice, self.random.random
        services = {}
        for number in range(self.random.randint(2, 7)):
            removing_first = chance() < 0.6
            services[f"s{number}"] = {
                "run": "serve",
                "scale": self.random.randint(1, 5),
                "deploy": {
                    "strategy": pick(["rolling", "rolling", "rolling", "recreate", "canary"]),
                    "surge": 0 if removing_first else 1,
                    "unavailable": self.random.randint(1, 3) if removing_first else 0,
                    "warm": "20s",
                }
                | self._policy(),
                "stop": {"drain": "5s", "grace": "2s"},
                "health": {"startup": "8s"},
            }
            if chance() < 0.5:
                services[f"s{number}"]["floor"] = self.random.randint(0, 4)
        if chance() < 0.4:
            services["db"] = {
                "run": "serve",
                "scale": self.random.randint(1, 3),
                "state": {"volume": "data"},
                "stop": {"drain": "5s", "grace": "2s"},
                "health": {"startup": "8s"},
            }
        guard = {
            "at_once": pick(["10%", "20%", "33%", "60%"]),
            "velocity": pick([{}, {"at_most": self.random.randint(1, 4), "within": "10s"}]),
            "starts": self.random.randint(1, 6),
        }
        return Application.model_validate(
            {
                "app": "sim",
                "services": services,
                "gateway": {"routes": [{"path": "/", "service": "s0"}]},
                "environments": {"dev": {"guard": guard}},
            }
        )

    def __init__(self, seed: int) -> None:
        self.watcher = Watcher()
        super().__init__(seed)

    def _check(self, world: World) -> None:
        """What must hold at every step, and the guard's promises."""
        super()._check(world)
        policy = self.application.environments["dev"].guard
        self.watcher.look(world, policy, self.line.time)


def play(seed: int) -> str | None:
    """Play one history; the violation as text, or None."""
    return violation_of(GuardedHistory(seed))
