"""Histories of instances that fall ill: hang, fail, slow down, leak, crash together, lose a need.

`play(seed)` is one of them, with the invariants of healing checked at every step: who is ill for
want of a need only is never touched, only one heal of a service acts at a time unless nothing
serves, every heal ends with a verdict, and after the last fault nobody is ill any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from simulation.adapters import ENDED, Behaviour, Crash, Violation
from simulation.history import History
from simulation.room import violation_of
from volery.decide.dependence import serves
from volery.decide.world import World
from volery.model.application import Application
from volery.model.errors import VoleryError
from volery.model.healing import Heal
from volery.model.state import Instance, Phase

LIMIT = 256 * 2**20
ILL = {
    "errors": Behaviour("errors"),
    "slow": Behaviour("slow"),
    "hung": Behaviour("hung"),
}
OWN_FAULT = ("hung", "not_alive", "unready", "errors", "slow")


class Sickness(History):
    """A few services in a row, each the next one's caller, and what befalls their instances."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.calm = False
        self.rate = 40.0
        self.rest += 12.0  # the slow one is told from a cold one for 6 s, and so is its successor
        self.ever_ill: set[str] = set()
        self.need_down = False
        self.verdicts: list[tuple[str, str]] = []
        self._known: dict[str, Heal] = {}

    def _application(self) -> Application:
        names = ["shop", "catalog", "store"]
        services = {
            name: {
                "run": "serve",
                "scale": self.random.randint(2, 4),
                "needs": names[index + 1 : index + 2],
                "deploy": {"strategy": "rolling", "warm_up": "2s"},
                "stop": {"drain": "5s", "grace": "2s"},
                "health": {"startup": "8s", "unready": "20s"},
                "resources": {"memory": "256Mi"},
                "max_age": self.random.choice([None, None, "40s"]),
            }
            for index, name in enumerate(names)
        }
        alone = {f"alone-{n}": {"run": "serve", "scale": 1} for n in range(2)}
        kept = services["store"] | {"scale": self.random.randint(1, 3), "max_age": None}
        kept["state"] = {"volume": "data"}
        return Application.model_validate(
            {"app": "sim", "services": services | alone | {"kept": kept}}
        )

    def _behaviour(self, release: str) -> Behaviour:
        down = self.need_down and release.startswith("store@")
        return Behaviour("never-ready" if down else self.kinds.get(release, "good"), 0.3)

    # --- faults -----------------------------------------------------------------------------------

    def fault(self) -> None:
        kinds: list[Callable[[], None]] = [
            *(self._fall_ill, self._fall_ill, self._fall_ill, self._leak, self._kill),
            *(self._crash_soon, self._need_goes, self._machine, self._bad_deploy),
        ]
        self._some_fault(kinds, 2, 15)

    def person(self) -> None:
        """Nobody interferes here."""

    def _ready(self) -> list[str]:
        return sorted(
            key
            for key, process in self.engine.processes.items()
            if process.seen.state == "ready" and not process.stopping
        )

    def _fall_ill(self) -> None:
        if not (ready := [key for key in self._ready() if key not in self.engine.ill]):
            return
        victim, how = self.random.choice(ready), self.random.choice(sorted(ILL))
        self._tell(f"{victim} is ill: {how}")
        self.ever_ill.add(victim)
        self.engine.ill[victim] = ILL[how]
        if how == "hung":
            self.line.after(1.0, lambda: self._silent(victim, suspect="no answer"))
            self.line.after(
                3.5,
                lambda: self._silent(
                    victim, suspect="no answer", hung=True, alive=False, state="unready"
                ),
            )

    def _silent(self, victim: str, **changes: object) -> None:
        process = self.engine.processes.get(victim)
        ill = self.engine.ill.get(victim)
        if process and ill and ill.kind == "hung" and process.seen.state in ("ready", "unready"):
            self.engine._set(victim, **changes)

    def _leak(self) -> None:
        if ready := self._ready():
            victim = self.random.choice(ready)
            self._tell(f"{victim} leaks")
            process, epoch = self.engine.processes[victim], self.engine.processes[victim].epoch

            def grow(size: int) -> None:
                alive = self.engine.processes.get(victim) is process and process.epoch == epoch
                if not alive or process.stopping:
                    return
                if size > LIMIT:
                    self.engine.exit(victim, 137)
                    return
                seen = replace(process.seen, memory=size, measured_at=self.line.time)
                process.seen = seen
                self.line.after(1.0, lambda: grow(size + 4 * 2**20))

            grow(100 * 2**20)

    def _need_goes(self) -> None:
        """The last service is not ready for a while, and so neither are its callers."""
        if self.need_down:
            return
        self._tell("store is down")
        self.need_down = True
        self.line.after(self.random.uniform(3, 15), self._need_returns)
        self._lack()

    def _lack(self) -> None:
        if not self.need_down:
            return
        for key, process in list(self.engine.processes.items()):
            if process.stopping or process.seen.state not in ("ready", "unready"):
                continue
            if key.startswith("store-"):
                self.engine._set(key, state="unready", detail="closed")
            elif key.startswith(("catalog-", "shop-")):
                self.line.after(self.random.uniform(0.2, 2), partial(self._ail, key))
        self.line.after(1.0, self._lack)

    def _ail(self, key: str) -> None:
        process = self.engine.processes.get(key)
        if self.need_down and process and process.seen.state in ("ready", "unready"):
            alive = self.random.random() < 0.5
            self.engine._set(key, state="unready", alive=alive, detail="its need does not answer")

    def _need_returns(self) -> None:
        self._tell("store is back")
        self.need_down = False
        for key, process in list(self.engine.processes.items()):
            later = 0.2 if key.startswith("store-") else self.random.uniform(1, 10)
            if key.startswith(("store-", "catalog-", "shop-")) and not process.stopping:
                self.line.after(later, partial(self._recover, key))

    def _recover(self, key: str) -> None:
        process = self.engine.processes.get(key)
        if process is None or process.stopping or self.need_down:
            return
        if process.seen.state == "starting":
            self.engine._boot(key)
        elif process.seen.state == "unready" and key not in self.engine.ill:
            self.engine._set(key, state="ready", alive=True, hung=False, suspect="", detail="")

    def _machine(self) -> None:
        self._tell("everything crashes at once")
        for key in self._ready():
            self.engine.exit(key, 9)

    def _bad_deploy(self) -> None:
        name = self.random.choice(["shop", "alone-0"])
        world = self.world()
        if any(world.active_rollouts()):
            return
        self.version[name] += 1
        self.kinds[f"{name}@{self.version[name]:08x}"] = "dies-later"
        self._tell(f"deploy of a {name} that dies later")
        try:
            self.submit({name}, "deploy")
        except (Crash, VoleryError):
            self.restart_control_plane()
        self._wake()

    # --- invariants -------------------------------------------------------------------------------

    def _check(self, world: World) -> None:
        super()._check(world)
        acting: dict[str, list[Heal]] = {}
        for key, found in world.heals.items():
            before = self._known.get(key)
            self._known[key] = found
            if found.phase == "acting" and found.kind not in ("exited", "machine"):
                acting.setdefault(found.service, []).append(found)
                if before is None:
                    self._check_begun(world, found, acting[found.service])
            if found.ended and not found.verdict:
                raise Violation(f"{key} ended without a verdict")
            if found.service == "kept" and found.verdict == "moot" and not _is_turned_back(world):
                raise Violation(f"{key} is moot, and nothing else befell it: {found.why}")

    def _check_begun(self, world: World, heal: Heal, acting: list[Heal]) -> None:
        innocent = heal.kind in OWN_FAULT and heal.instance not in self.ever_ill
        if innocent and not self._has_ended(heal, world.instances.get(heal.instance)):
            raise Violation(f"{heal.id}: {heal.instance} was replaced though only its need was ill")
        if len(acting) > 1 and serves(world, world.services[heal.service]):
            raise Violation(f"{[one.id for one in acting]} act at once while others serve")

    def _has_ended(self, heal: Heal, item: Instance | None) -> bool:
        """Whether it is not ready because it has yet to start, or to start again."""
        seen = self.engine.processes[heal.instance].seen
        begins = item is not None and not item.proven
        return heal.kind == "unready" and (begins or seen.detail == ENDED)

    def check_converged(self) -> None:
        super().check_converged()
        for heal in self.memory.documents("heal").values():
            assert isinstance(heal, Heal)
            if not heal.ended and heal.kind not in {"machine", "old"}:
                raise Violation(f"{heal.id} ({heal.kind}) has no verdict: {heal.phase}")
        for name, service in self.world().services.items():
            ill = [
                item.id for item in self.world().instances_of(name) if item.id in self.engine.ill
            ]
            # With as many well ones as ill ones nobody knows which are which.
            if ill and service.scale > 2 * len(ill):
                raise Violation(f"still ill: {ill}")


def _is_turned_back(world: World) -> bool:
    """Whether the first release of what is kept ended while it was started."""
    turned = {Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED}
    return any(item.service == "kept" and item.phase in turned for item in world.rollouts.values())


def play(seed: int) -> str | None:
    """Play one history; the violation as text, or None."""
    return violation_of(Sickness(seed))
