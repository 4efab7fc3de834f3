"""One seeded history: people and faults at random, invariants at every step, convergence at last.

A violation says `Violation` with the seed and the last lines of the story. A history lasts a few
virtual minutes; at its end all faults stop and everything must come to rest as the documents say.
"""

from __future__ import annotations

from collections.abc import Callable

from simulation.adapters import Behaviour, Crash, SimBuilder, SimEngine, SimTraffic, Violation
from simulation.room import Room, violation_of
from volery.decide import submit
from volery.decide.phases import has_begun
from volery.decide.stages import stages
from volery.decide.submit import Order
from volery.decide.world import World
from volery.model.application import Application
from volery.model.errors import VoleryError
from volery.model.state import BASELINE, Instance, Phase, Release, Rollout, ServiceState

SERVING = (Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING, Phase.PAUSED, Phase.PROMOTING)
STRATEGIES = ("rolling", "canary", "canary", "blue-green", "recreate")
JUDGED = ("errors", "slow", "dead")
"""What only users notice."""


class History(Room):
    """A few services, and what people and faults do to them."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.kinds: dict[str, str] = {}
        self.engine = SimEngine(self.line, self._behaviour)
        self.traffic = SimTraffic(self.line, self.engine)
        self.builder = SimBuilder(self.line, self._build_kind)
        self.application = self._application()
        self.version = dict.fromkeys(self.application.services, 0)
        self.faults_until = self.random.uniform(20, 60)
        self.calm = self.random.random() < 0.4  # no instance faults: capacity must hold exactly
        self.rate = 100.0 if self.random.random() < 0.1 else 10.0  # requests a second to each
        self.beside = self.random.choice(["good", "good", "crash", "never-ready", "errors"])
        self.rest = 110.0  # seconds in which everything has to come to rest
        self.size_before: dict[str, int] = {}
        self._alive_before: dict[str, set[str]] = {}
        self._judged: dict[str, int] = {}
        self._waved: set[str] = set()
        self._turned: set[str] = set()
        self._open()
        self.engine.on_stop = self._check_stop
        self.engine.from_its_start = self._baseline

    # --- what there is ----------------------------------------------------------------------------

    def _application(self) -> Application:
        names = ["shop", "catalog", "store"][: self.random.randint(1, 3)]
        services = {}
        for index, name in enumerate(names):
            strategy = self.random.choice(STRATEGIES)
            services[name] = {
                "run": "serve",
                "scale": self.random.randint(1, 4),
                "needs": names[index + 1 : index + 2],
                "deploy": {"strategy": strategy, "warm": "20s", "surge": self.random.randint(1, 2)}
                | self._policy(),
                "stop": {"drain": "5s", "grace": "2s"},
                "health": {"startup": "8s"},
            }
        if self.random.random() < 0.3:
            services[names[-1]]["state"] = {"volume": "data"}
            services[names[-1]]["deploy"] = {
                "strategy": self.random.choice(["rolling", "recreate"])
            }
        routes = [{"path": "/", "service": names[0]}]
        return Application.model_validate(
            {"app": "sim", "services": services, "gateway": {"routes": routes}}
        )

    def _policy(self) -> dict[str, object]:
        """How a canary of a service goes."""
        return {
            "steps": self.random.choice([["10%", "50%"], ["25%"], ["5%", "20%", "60%"]]),
            "at_most": f"{self.random.randint(5, 20)}s",
            "on_inconclusive": self.random.choice(["promote", "rollback", "pause"]),
            "approve": self.random.random() < 0.1,
            "baseline": self.random.random() < 0.3,
            "mirror": self.random.choice(["0%", "0%", "10%"]),
            "watch": self.random.choice(["0s", "3s"]),
            "warm_up": "2s",
            "gates": self._gates(),
            "metrics": self._metrics(),
        }

    def _gates(self) -> list[dict[str, object]]:
        if self.random.random() < 0.7:
            return []
        return [
            {
                "when": self.random.choice(["before_start", "before_step", "after"]),
                "url": "http://gate.example",
                "timeout": "3s",
                "on_failure": self.random.choice(["abort", "hold"]),
            }
        ]

    def _metrics(self) -> dict[str, object]:
        if self.random.random() < 0.8:
            return {}
        asked = {"command": ["measure", self.random.choice(["{release}", "all"])]}
        return {"orders": asked | {"limit": "> 1", "every": "2s", "failures": 2}}

    def _behaviour(self, release: str) -> Behaviour:
        kind = self.kinds.get(release, "good")
        slow = self.random.random() < 0.1
        return Behaviour(kind, 4.0 if slow and not self.calm else 0.3)

    def _baseline(self, instance: str) -> Behaviour | None:
        """What was good may be no more when it is started again: only baselines are."""
        found = self.memory.documents("instance").get(instance)
        is_beside = isinstance(found, Instance) and found.slot == BASELINE
        return Behaviour(self.beside) if is_beside and self.beside != "good" else None

    def _build_kind(self, release: str) -> str:
        kind = self.kinds.get(release, "good")
        return kind if kind in ("tests", "build") else ""

    # --- people -----------------------------------------------------------------------------------

    def _release(self, name: str) -> Release:
        identity = f"{name}@{self.version[name]:08x}"
        spec = self.application.services[name]
        return Release(identity, name, identity[-8:], spec, self.line.now())

    def submit(self, only: set[str] | None, cause: str) -> None:
        self._submit(map(self._release, self.application.services), only, cause)

    def person(self) -> None:
        """Somebody does something, sensible or not; a refusal is fine."""
        names = sorted(self.application.services)
        some = self.random.sample(names, self.random.randint(1, len(names)))
        one = self.random.choice(names)
        act = self.random.choice(["deploy"] * 6 + list(ACTS))
        try:
            self._do(act, some, one)
            self._note_sizes()
            self._tell(f"{act} {some if act == 'deploy' else one}")
        except VoleryError as error:
            self._tell(f"{act} {one} refused: {error.message}")
        except Crash:
            self.restart_control_plane()
            self._note_sizes()
        self._wake()
        if self.line.time < self.faults_until:
            self.line.after(self.random.uniform(1, 15), self.person)

    def _do(self, act: str, some: list[str], one: str) -> None:
        draft = self.controller.draft()
        order = Order("rollback" if act == "rollback" else "restart", "sim", draft.now)
        if act == "deploy":
            for name in some:
                self.version[name] += 1
                kind = self.random.choice(["good"] * 6 + list(BAD))
                self.kinds[f"{name}@{self.version[name]:08x}"] = kind
            self.submit(set(some), "deploy")
        elif act == "up":
            self.submit(None, "up")
        elif act == "revert":
            self._revert(one)
        elif act == "policy":
            self._edit(one)
            self.submit({one} if self.random.random() < 0.5 else None, "up")
        elif act == "abort":
            self.controller.act(one, "abort", "aborted by hand")
        elif act in ("promote", "pause", "resume"):
            self._act(one, act)
        else:
            world = draft.world
            if act == "scale":
                changed = submit.scale(world, one, self.random.randint(1, 4))
                draft.put("service", one, changed)
            elif act == "rollback":
                rollout = submit.rollback(world, one, None, order)
                draft.put("rollout", rollout.id, rollout)
            else:
                rollout = submit.restart(world, one, order)
                draft.put("rollout", rollout.id, rollout)
            draft.commit()

    def _act(self, name: str, act: str) -> None:
        full = self.random.random() < 0.3
        rollout = self.world().rollout_of(name)
        if rollout is not None and act == "promote":
            self._waved.add(rollout.id)
        self.controller.act(name, act, "by hand", full=full)

    def _revert(self, name: str) -> None:
        """Somebody deploys what serves, maybe while another release is on its way."""
        world = self.world()
        live = world.services[name].live
        made = {item.service: item for item in map(self._release, self.application.services)}
        back = {name: world.releases[live.release]} if live else {}
        self._submit((made | back).values(), {name}, "deploy")

    def _edit(self, name: str) -> None:
        """Somebody changes how a service is deployed, maybe in the middle of that."""
        before = self.application.model_dump(mode="json", exclude_unset=True)
        if "state" not in before["services"][name]:
            before["services"][name]["deploy"] |= self._policy()
            self.application = Application.model_validate(before)

    # --- faults -----------------------------------------------------------------------------------

    def fault(self) -> None:
        kinds: list[Callable[[], None]] = [self._crash_soon, self._crash_soon, self._disk_full]
        if not self.calm:
            kinds += [self._kill, self._kill, self._hang, self.traffic.restart_proxy, self._jump]
        self._some_fault(kinds, 0.5, 12)

    def _alive(self) -> list[str]:
        return sorted(
            key
            for key, process in self.engine.processes.items()
            if process.seen.state in ("ready", "starting") and not process.stopping
        )

    def _kill(self) -> None:
        if alive := self._alive():
            victim = self.random.choice(alive)
            self._tell(f"{victim} was killed")
            self.engine.exit(victim, 137)

    def _hang(self) -> None:
        if alive := self._alive():
            self.engine.hang(self.random.choice(alive))

    def _users(self) -> None:
        for name in self.application.services:
            self.traffic.request(name)
        self.line.after(1 / self.rate, self._users)

    # --- invariants -------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold at every step."""
        if self.traffic.lost:
            raise Violation(self.traffic.lost[0])
        self._check(self.world())

    def _check(self, world: World) -> None:
        """The same, asked once a step of a look at the world."""
        for name, service in world.services.items():
            running = [r for r in world.active_rollouts() if r.service == name and has_begun(r)]
            if len(running) > 1:
                raise Violation(f"{name} has {len(running)} rollouts at once")
            self._check_capacity(world, service)
            self._check_weights(service)
            self._check_copies(service)
        for rollout in world.active_rollouts():
            self._check_return(world, rollout)
            self._check_evidence(rollout)
            self._check_stages(world, rollout)

    def _check_copies(self, service: ServiceState) -> None:
        """What must never run twice is started when there is room for it, whoever wants it."""
        alive = {
            key
            for key, process in self.engine.processes.items()
            if process.spec.service == service.name and process.seen.state != "exited"
        }
        come = alive - self._alive_before.get(service.name, set())
        self._alive_before[service.name] = alive
        recreated = service.config.deploy.strategy == "recreate" and service.config.state is None
        if recreated and come and len(alive) > service.scale:
            raise Violation(f"{sorted(alive)} run, and {service.name} has {service.scale}")

    def _check_weights(self, service: ServiceState) -> None:
        """All requests go somewhere, none twice, and a canary never gets more than its step."""
        given = {name: slot.weight for name, slot in service.slots.items() if slot}
        if given and abs(sum(given.values()) - 100) > 0.01 and service.live is not None:
            raise Violation(f"{service.name}: the weights are {given}")

    def _check_stages(self, world: World, rollout: Rollout) -> None:
        """Its steps are counted by the stages it began with, whatever is edited meanwhile."""
        begun = rollout.phase in SERVING and has_begun(rollout)
        if begun and rollout.strategy == "canary" and rollout.from_release:
            found = len(stages(rollout, world.services[rollout.service]))
            if found != rollout.steps:
                raise Violation(f"{rollout.id}: {found} stages, {rollout.steps} when it began")

    def _check_evidence(self, rollout: Rollout) -> None:
        """Nothing is counted twice, and no step is passed on the evidence of an earlier one. To the
        last step the one before has led; it waits for instances, not for evidence."""
        looks = self.memory.looks(rollout.id)
        seen = sum(look.canary.requests for look in looks)
        served = self.traffic.answered[rollout.to_release]
        if seen > served:
            raise Violation(f"{rollout.id}: {seen} requests judged, {served} answered")
        before = self._judged.get(rollout.id, 0)
        self._judged[rollout.id] = rollout.passed
        is_last = rollout.passed >= rollout.steps
        by_evidence = rollout.verdict == "promote" and rollout.id not in self._waved and not is_last
        if rollout.passed > before and by_evidence and rollout.strategy == "canary":
            last = looks[-1] if looks else None
            if last is None or last.step != rollout.passed or last.verdict != "promote":
                raise Violation(f"{rollout.id}: step {rollout.passed} passed without evidence")
            if self.kinds.get(rollout.to_release) == "dead":
                raise Violation(f"{rollout.id}: a release that fails always passed a step")

    def _check_capacity(self, world: World, service: ServiceState) -> None:
        """Without instance faults a rollout never takes ready capacity below its promise."""
        rollout = world.rollout_of(service.name)
        if not self.calm or rollout is None or rollout.from_release is None:
            return
        dying = self.kinds.get(rollout.to_release) == "dies-later"
        deploy, stateful = service.config.deploy, service.config.state is not None
        if rollout.strategy == "recreate" or stateful or dying or rollout.cause == "restart":
            return
        returns = rollout.phase is Phase.ROLLING_BACK and rollout.verdict != "abort"
        if rollout.phase not in SERVING and not returns:
            return
        if self.kinds.get(rollout.from_release or "") == "dies-later":
            return
        ready = sum(
            world.ready(item) and item.intent == "run" for item in world.instances_of(service.name)
        )
        promised = min(service.scale, self.size_before.get(rollout.id, 0)) - deploy.unavailable
        if ready < promised and not self._growing(world, service):
            raise Violation(f"{service.name}: {ready} ready, {promised} promised")

    def _check_return(self, world: World, rollout: Rollout) -> None:
        """What served before is not given up because of one instance while another one serves."""
        turned = rollout.phase is Phase.ROLLING_BACK and rollout.id not in self._turned
        if not turned or rollout.cause not in ("rollback", "heal"):
            return
        self._turned.add(rollout.id)
        there = world.instances_of(rollout.service, rollout.slot)
        ready = [item.id for item in there if world.ready(item)]
        if ready and any(item.id in rollout.reason for item in there):
            raise Violation(f"{rollout.id}: {rollout.reason}, and {ready} serve")

    def _note_sizes(self) -> None:
        """`up` may ask for a new size and a new release at once: the promise is the old size."""
        world = self.world()
        for rollout in world.active_rollouts():
            service = world.services.get(rollout.service)
            live = service.live if service else None
            self.size_before.setdefault(rollout.id, live.count if live else 0)

    def _growing(self, world: World, service: ServiceState) -> bool:
        """A rollout right after `scale` starts with less than the new scale."""
        live = service.live
        there = world.instances_of(service.name, service.active)
        return live is not None and sum(item.proven for item in there) < live.count

    def _check_stop(self, instance: str) -> None:
        """An instance may be stopped only when no proxy routes to it and nothing is in flight."""
        process = self.engine.processes[instance]
        if process.crashed or process.seen.state in ("starting", "exited"):
            return
        document = self.memory.documents("instance").get(instance)
        given_up = ("drain limit", "never answer")
        limit = isinstance(document, Instance) and any(
            words in document.because for words in given_up
        )
        busy = self.traffic.in_flight[instance]
        if busy and not limit:
            raise Violation(f"{instance} is stopped with {busy} requests in flight")
        for proxy in self.traffic.proxies:
            for routed in proxy.config.services.values():
                for group in routed.slots.values():
                    for endpoint in group.endpoints:
                        active = endpoint.instance == instance and not endpoint.draining
                        if active and group.weight > 0:
                            raise Violation(f"{instance} is stopped while it is in rotation")

    def check_converged(self) -> None:
        """After the last fault everything is as the documents say."""
        self._abort_paused()
        world = self.world()
        active = list(world.active_rollouts())
        if active:
            raise Violation(f"{active[0].id} still {active[0].phase}: {active[0].reason}")
        for name, service in world.services.items():
            self._check_whole(world, name, service)
        known = set(world.instances)
        if set(self.engine.processes) - known:
            raise Violation(f"orphans: {sorted(set(self.engine.processes) - known)}")

    def _abort_paused(self) -> None:
        for rollout in self.world().active_rollouts():
            if rollout.phase is Phase.PAUSED:  # it waits for a person: here is one
                self.controller.act(rollout.service, "abort", "aborted by hand")
                self._wake()

    def _check_whole(self, world: World, name: str, service: ServiceState) -> None:
        live = service.live
        if live is None:
            if any(r.phase is Phase.DONE and r.service == name for r in world.rollouts.values()):
                raise Violation(f"{name} was live and has no group now")
            return
        there = world.instances_of(name, service.active)
        ready = [item for item in there if world.ready(item)]
        dying = self.kinds.get(live.release) == "dies-later"
        if len(ready) != service.scale and not dying:
            raise Violation(f"{name}: {len(ready)} of {service.scale} ready")
        if world.instances_of(name, BASELINE):
            raise Violation(f"{name}: a baseline group is left over")
        if live.weight != 100:
            raise Violation(f"{name}: the live group has weight {live.weight}")

    # --- the whole of it --------------------------------------------------------------------------

    def _live(self) -> None:
        self.submit(None, "up")
        self.line.after(0, self._timer)
        self.line.after(0.1, self._users)
        self.line.after(0.5, self.traffic.count)
        self.line.after(self.random.uniform(3, 10), self.person)
        self.line.after(self.random.uniform(1, 10), self.fault)
        self._until(self.faults_until + 16)
        self._calm()
        self._rest(self.rest)


BAD = ("crash", "never-ready", "dies-later", "tests", "build", *JUDGED)
ACTS = (
    *("up", "rollback", "restart", "scale", "abort", "promote", "pause", "resume"),
    *("revert", "policy", "policy"),
)


def play(seed: int) -> str | None:
    """Play one history; the violation as text, or None."""
    return violation_of(History(seed))
