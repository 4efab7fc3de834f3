"""One seeded history of a stateful service: faults, people and crashes; never two primaries, no
acknowledged write lost, and at last one primary and everybody in sync.

A promotion that went ahead without a member, after its patience, may lose what only that member
had: the event says so, and such a history is only checked for everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from simulation.adapters import Behaviour, Crash, SimBuilder, SimTraffic, Violation
from simulation.databases import STREAM_SECONDS, DatabaseEngine
from simulation.room import Room, violation_of
from volery.decide import submit
from volery.decide.stateful import by_hand
from volery.decide.submit import Order
from volery.model.application import Application
from volery.model.errors import VoleryError
from volery.model.state import Release
from volery.model.tenure import Tenure

EMPTY_SECONDS = 12.0
"""Longer than any partition here, and the answers to some questions."""


DEMOTED_SECONDS = 10.0
"""Longer than a control plane is away, or its disk full."""


class StatefulHistory(Room):
    """A replicated database, and what people and faults do to it."""

    engine: DatabaseEngine
    timer_seconds = 0.5

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.engine = DatabaseEngine(self.line, self._behaviour)
        self.traffic = SimTraffic(self.line, self.engine)
        self.engine.traffic = self.traffic
        self.builder = SimBuilder(self.line, lambda _: "")
        self.version = 0
        self.scale = self.random.choice([3, 3, 3, 2, 4])
        self.application = self._application()
        self.faults_until = self.random.uniform(30, 90)
        self._empty = ("", 0.0)
        self._demoted_since = 0.0
        self._open()

    def _application(self) -> Application:
        state = {
            "volume": "data",
            "role": "role",
            "switchover": "promote",
            "failover": self.random.choice(["1s", "2s", "3s"]),
        }
        state |= {"demote": "demote"} if self.random.random() < 0.5 else {}
        state |= {"backup": "backup"} if self.random.random() < 0.3 else {}
        database = {
            "run": "serve",
            "protocol": "tcp",
            "scale": self.scale,
            "state": state,
            "stop": {"drain": "3s", "grace": "2s"},
            "health": {"startup": "10s"},
        }
        return Application.model_validate({"app": "sim", "services": {"db": database}})

    def _behaviour(self, release: str) -> Behaviour:
        del release
        slow = 20 < self.line.time < self.faults_until and self.random.random() < 0.15
        return Behaviour("good", 4.0 if slow else 0.3)

    def restart_control_plane(self) -> None:
        self.engine.forget_commands()
        super().restart_control_plane()

    def check(self) -> None:
        """The engine itself says when two are primaries. Here: nobody is led for long to one that
        lost its data while others have theirs."""
        empty = self.engine.routed_to_emptied("db")
        if empty != self._empty[0]:
            self._empty = (empty, self.line.time)
        elif empty and self.line.time - self._empty[1] > EMPTY_SECONDS:
            raise Violation(f"clients are led to {empty}, which has lost its data")
        self._check_demoted()

    def _check_demoted(self) -> None:
        """Nobody leaves a primary that takes no writes alone."""
        tenure = self.memory.documents("tenure").get("db")
        assert tenure is None or isinstance(tenure, Tenure)
        mind = self.engine.minds.get(tenure.primary) if tenure and not tenure.changing else None
        if mind is None or not mind.demoted:
            self._demoted_since = self.line.time
        elif self.line.time - self._demoted_since > DEMOTED_SECONDS:
            raise Violation(f"{mind.process.spec.id} is left as a primary that takes no writes")

    def _clients(self) -> None:
        self.engine.write("db")
        self.line.after(self.random.uniform(0.02, 0.1), self._clients)

    def _stream(self) -> None:
        self.engine.stream("db")
        self.line.after(STREAM_SECONDS, self._stream)

    # --- people ---

    def submit(self, cause: str) -> None:
        self.version += 1 if cause == "deploy" else 0
        identity = f"db@{self.version:08x}"
        spec = self.application.services["db"]
        release = Release(identity, "db", identity[-8:], spec, self.line.now())
        self._submit([release], None, cause)

    def _person(self) -> None:
        act = self.random.choice(["switchover"] * 3 + ["deploy", "restart", "scale"])
        try:
            self._do(act)
            self._tell(act)
        except VoleryError as error:
            self._tell(f"{act} refused: {error.message}")
        except Crash:
            self.restart_control_plane()
        self._wake()
        if self.line.time < self.faults_until:
            self.line.after(self.random.uniform(5, 25), self._person)

    def _do(self, act: str) -> None:
        draft = self.controller.draft()
        if act == "deploy" and draft.world.rollout_of("db") is None:
            return self.submit("deploy")
        service = submit.known(draft.world, "db")
        if act == "switchover":
            draft.put("tenure", "db", by_hand(draft.world, service, "sim", None, draft.now))
        elif act == "restart":
            rollout = submit.restart(draft.world, "db", Order("restart", "sim", draft.now))
            draft.put("rollout", rollout.id, rollout)
        elif act == "scale":
            self.scale = self.random.randint(2, 4)
            draft.put("service", "db", submit.scale(draft.world, "db", self.scale))
        draft.commit()
        return None

    # --- faults ---

    def _fault(self) -> None:
        kinds: list[Callable[[], None]] = [
            self._crash_soon,
            self._crash_soon,
            self._kill,
            self._kill,
            self._kill_primary,
            self._kill_primary,
            self._empty_primary,
            self._spoil,
            self._freeze,
            self._misanswer,
            self._misanswer,
            self._partition,
            *(self._hooks, self._hooks, self._hooks),
            self._lag,
            self._disk_full,
            self._jump,
        ]
        self._some_fault(kinds, 0.5, 12)

    def _somebody(self) -> str:
        alive = [
            key
            for key, process in self.engine.processes.items()
            if process.seen.state == "ready" and not process.stopping
        ]
        return self.random.choice(sorted(alive)) if alive else ""

    def _kill(self) -> None:
        self._end(self._somebody())

    def _kill_primary(self) -> None:
        self._end(next((key for key, mind in self.engine.minds.items() if mind.primary), ""))

    def _empty_primary(self) -> None:
        victim = next((key for key, mind in self.engine.minds.items() if mind.primary), "")
        if victim and self.engine.whole_copies(victim):  # losing the last one nobody can mend
            self._tell(f"the volume of {victim} is emptied")
            self._end(victim)
            self.engine.empty(victim)

    def _spoil(self) -> None:
        """A volume cannot be written for a while; sometimes everybody's."""
        everybody = sorted(self.engine.processes)
        chosen = everybody if self.random.random() < 0.2 else [self._somebody()]
        seconds = self.random.uniform(0.5, 20)
        for victim in filter(None, chosen):
            self._tell(f"the volume of {victim} is read-only")
            self.engine.spoil(victim, True)
            self.line.after(seconds, partial(self.engine.spoil, victim, False))

    def _end(self, victim: str) -> None:
        process = self.engine.processes.get(victim)
        if process is not None and process.seen.state == "ready" and not process.stopping:
            self._tell(f"{victim} was killed")
            self.engine.exit(victim, 137)

    def _freeze(self) -> None:
        if victim := self._somebody():
            self._tell(f"{victim} hangs")
            self.engine.freeze(victim, True)
            seconds = self.random.choice([0.5, 3, 20])
            self.line.after(seconds, lambda: self.engine.freeze(victim, False))

    def _misanswer(self) -> None:
        if victim := self._somebody():
            self._mode(victim, self.random.choice(["hang", "rubbish", "flap", "lie"]))

    def _partition(self) -> None:
        """Nobody's role is known for a while, or only a minority's."""
        for victim in sorted(self.engine.processes)[: self.random.randint(2, 4)]:
            self._mode(victim, "hang", self.random.uniform(1, 8))

    def _mode(self, victim: str, mode: str, seconds: float | None = None) -> None:
        self._tell(f"the role of {victim}: {mode}")
        self.engine.modes[victim] = mode
        wait = self.random.uniform(0.5, 8) if seconds is None else seconds
        self.line.after(wait, lambda: self._well(victim))

    def _well(self, victim: str) -> None:
        self.engine.modes.pop(victim, None)

    def _hooks(self) -> None:
        self._tell("hooks misbehave")
        self.engine.hooks = "mixed"
        self.line.after(self.random.uniform(2, 15), self._hooks_well)

    def _hooks_well(self) -> None:
        self.engine.hooks = "well"

    def _lag(self) -> None:
        mind = self.engine.minds.get(self._somebody())
        if mind is not None:
            mind.lag = True
            self.line.after(self.random.uniform(1, 6), lambda: setattr(mind, "lag", False))

    # --- the whole of it ---

    @property
    def risky(self) -> bool:
        """Whether somebody was promoted though a member that may have known more was away."""
        events = self.memory.events(limit=10**6)
        return any(e.kind == "state.promoting" and e.data["unseen"] for e in events)

    def check_converged(self) -> None:
        world = self.world()
        tenure, service = world.tenures["db"], world.services["db"]
        if tenure.changing or world.rollout_of("db") is not None:
            change = tenure.changing or world.rollout_of("db")
            raise Violation(f"not at rest: {change}")
        there = world.instances_of("db")
        roles = {item.id: world.observed[item.id].role for item in there if world.ready(item)}
        if len(there) != service.scale or len(roles) != service.scale:
            raise Violation(f"{len(roles)} of {service.scale} ready, {len(there)} there: {roles}")
        if [key for key, role in roles.items() if role == "primary"] != [tenure.primary]:
            raise Violation(f"{tenure.primary} is the recorded primary: {roles}")
        lost = self.engine.lost(tenure.primary)
        if lost and not self.risky:
            raise Violation(f"{tenure.primary} lacks {len(lost)} acknowledged writes: {lost[:3]}")

    def _live(self) -> None:
        self.submit("up")
        self.line.after(0, self._timer)
        self.line.after(0.1, self._clients)
        self.line.after(0.1, self._stream)
        self._rest(60)
        self.faults_until += self.line.time
        self.line.after(self.random.uniform(1, 15), self._person)
        self.line.after(self.random.uniform(1, 12), self._fault)
        self._until(self.faults_until + 25)
        self._calm()
        self._rest(150)


def play(seed: int) -> str | None:
    """Play one history; the violation as text, or None."""
    return violation_of(StatefulHistory(seed))
