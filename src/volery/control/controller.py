"""The controller: one synchronous function of what is remembered and what is observed.

`tick` looks once, decides (all in `decide`), commits documents and events in one transaction, and
only then wishes: a new configuration for the data plane, instances started, stopped, forgotten.
It can be killed between any two lines; the next tick of the next process goes on from the
documents. It never waits and never raises for what the world does; the daemon calls it when
something woke it, and by timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from volery.control.draft import Draft
from volery.control.edges import EdgeWatch
from volery.control.evidence import EvidenceWatch, attended
from volery.control.exits import note_exits
from volery.control.gateway import lead
from volery.control.guarding import rule, tend_brakes
from volery.control.healing import Healer
from volery.control.rollouts import (
    RolloutDriver,
    Seen,
    answered,
    is_its_turn,
    record,
    turn_round,
)
from volery.control.stewardship import Stewards
from volery.control.volumes import note_volumes
from volery.control.watch import Ages, Generations
from volery.decide.act import act, chosen
from volery.decide.asked import calls
from volery.decide.built import is_built
from volery.decide.group import Conditions, Operation, reconcile
from volery.decide.guard import wanted_by
from volery.decide.judge import History
from volery.decide.phases import has_begun
from volery.decide.routes import Router
from volery.decide.upkeep import is_leaving, upkeep
from volery.decide.world import World
from volery.model.errors import VoleryError
from volery.model.ports import (
    Builder,
    Clock,
    Engine,
    InstanceSpec,
    Outside,
    Store,
    Traffic,
    TrafficConfig,
    TrafficStatus,
)
from volery.model.state import Instance, Phase, ServiceState

SpecOf = Callable[[World, Instance], InstanceSpec]


@dataclass(frozen=True)
class Ports:
    """Everything outside that a controller changes or looks at."""

    store: Store
    engine: Engine
    traffic: Traffic
    builder: Builder
    outside: Outside
    clock: Clock


class Controller:
    """Drives one environment to what its documents wish."""

    def __init__(self, ports: Ports, spec_of: SpecOf) -> None:
        self.ports = ports
        self._spec_of = spec_of
        self._ages = Ages()
        self._generations = Generations()
        self._evidence = EvidenceWatch()
        self._edges = EdgeWatch()
        self._driver = RolloutDriver(ports.engine, self._ages, self._evidence)
        self._stewards = Stewards(ports.engine, self._ages, self._generations)
        self._healer = Healer(self._ages, self._evidence.of_instances)
        self._router = Router(ports.traffic.edge_port)
        self._seen: World | None = None
        self._settled: set[str] = set()
        self._proxies: tuple[int, ...] = ()

    def draft(self) -> Draft:
        """A look at everything now, to be edited and committed."""
        return Draft(
            self.ports.store,
            self.ports.clock.now(),
            self.ports.engine.observe(),
            self.ports.builder.observe(),
            self._seen,
        )

    def tick(self) -> bool:
        """Look, decide, record, do. True if it changed something and should be called again."""
        draft = self.draft()
        status = self.ports.traffic.observe()
        monotonic = self.ports.clock.monotonic()
        config = self._router.config(draft.world)
        if draft.world.environment is not None:
            self._decide(draft, config, status, monotonic)
        changed = draft.commit()
        world = self._seen = draft.world
        self._route(world, self._router.config(world) if changed else config)
        self._carry_out(world, status)
        self._ages.sweep()
        return changed

    def _decide(
        self, draft: Draft, config: TrafficConfig, status: TrafficStatus, monotonic: float
    ) -> None:
        answers = self.ports.outside.observe()
        lead(draft)
        self._give_up_rollouts_of_leaving(draft)
        sample = self.ports.traffic.sample()
        self._evidence.look(draft, sample, answers, monotonic)
        self._edges.look(draft, config, sample)
        settled = self._generations.in_force(config, status)
        self._driver.drive(draft, Seen(settled, status.rejected, monotonic, answers))
        note_volumes(draft)
        self._healer.drive(draft, note_exits(draft), monotonic)
        asked: list[Operation] = []
        for name in sorted(draft.world.services):
            asked += self._reconcile(draft, draft.world.services[name], status, monotonic)
        tend_brakes(draft)
        for operation in rule(draft, asked, lambda key: self._ages.of(key, monotonic)):
            _apply(draft, operation)
        self._drop_removed(draft)
        self._note_unstartable(draft)
        self._note_proxies(draft, status)

    def _reconcile(
        self, draft: Draft, service: ServiceState, status: TrafficStatus, monotonic: float
    ) -> list[Operation]:
        world = draft.world
        rollout = world.rollout_of(service.name)
        rolling = rollout is not None
        if not rolling:
            service = upkeep(world, service, draft.now)
        given = Conditions(
            now=draft.now,
            drained=lambda item: self._generations.drained(item.id, status),
            age=lambda item: self._ages.of((item.id, item.intent), monotonic),
            routed=lambda item: not self._generations.withdrawn(item.id, status),
            may_start=self._may_start(service.name, status),
            in_rollout=rolling,
            wanted_by=wanted_by(world, service),
            closing=rollout.slot if rollout and rollout.phase is Phase.ROLLING_BACK else None,
        )
        service, wanted = reconcile(world, service, given)
        draft.put("service", service.name, service)
        return list(self._stewards.look(draft, service, wanted, status, monotonic))

    def _drop_removed(self, draft: Draft) -> None:
        for name, service in list(draft.world.services.items()):
            if not service.removing or draft.world.rollout_of(name) is not None:
                continue
            if is_leaving(draft.world, service) and not draft.world.instances_of(name):
                draft.drop("service", name)
                draft.event("service.removed", f"{name} is gone", service=name)

    def _may_start(self, service: str, status: TrafficStatus) -> bool:
        """New instances call their needs at once, so their edges must be there first."""
        return self._generations.edges_in_force(service, status)

    def _give_up_rollouts_of_leaving(self, draft: Draft) -> None:
        for rollout in list(draft.world.active_rollouts()):
            service = draft.world.services.get(rollout.service)
            goes_back = rollout.phase is Phase.ROLLING_BACK
            if service is not None and is_leaving(draft.world, service):
                ended = replace(
                    rollout,
                    phase=Phase.FAILED,
                    reason="the service is being taken down",
                    given_up=not goes_back,
                    finished_at=draft.now,
                    since=draft.now,
                )
                record(draft, rollout, ended)
            elif service is not None and service.removing and not goes_back:
                turn_round(draft, rollout, "the service left the manifest", given_up=True)

    def _note_unstartable(self, draft: Draft) -> None:
        """Instances that could not even be asked for, and those that could in the end."""
        for gone in self._driver.unstartable.keys() - draft.world.instances.keys():
            del self._driver.unstartable[gone]
        for item in list(draft.world.instances.values()):
            why = self._driver.unstartable.get(item.id, "") if item.intent == "run" else ""
            if why == item.unstartable:
                continue
            draft.put("instance", item.id, replace(item, unstartable=why))
            if why:
                draft.event(
                    "instance.unstartable",
                    f"{item.id} cannot be started: {why}",
                    service=item.service,
                    release=item.release,
                    instance=item.id,
                    cause=why,
                )

    def _note_proxies(self, draft: Draft, status: TrafficStatus) -> None:
        """An Envoy that was replaced, or died and was started again."""
        if self._proxies and status.proxies and status.proxies != self._proxies:
            pids = ", ".join(map(str, status.proxies))
            draft.event("gateway.changed", f"Envoy runs as process {pids}", cause="it was replaced")
        self._proxies = status.proxies or self._proxies

    def _route(self, world: World, config: TrafficConfig) -> None:
        if self._generations.send(config, world.instances.values()):
            self.ports.traffic.apply(config, self._generations.current)

    def _carry_out(self, world: World, status: TrafficStatus) -> None:
        """Wishes, each idempotent, for whatever the documents say and the world does not show."""
        engine = self.ports.engine
        for item in world.instances.values():
            seen = world.observed.get(item.id)
            if item.intent == "run" and seen is None and self._may_start(item.service, status):
                self._start(world, item)
            if item.intent == "run" and item.proven and item.id not in self._settled:
                engine.settle(item.id)
                self._settled.add(item.id)
            elif item.intent == "stop" and seen is not None and seen.state != "exited":
                (engine.kill if item.fenced or item.hung else engine.stop)(item.id)
        for identity, seen in world.observed.items():
            if identity in world.instances:
                continue
            self._settled.discard(identity)
            if seen.state == "exited":
                engine.forget(identity)
            else:
                engine.stop(identity)
        self._stewards.carry_out(world)
        self._ask_for_builds(world)
        watched, sick = attended(world), self._evidence.of_instances
        self.ports.traffic.attend(
            watched | sick.busy(world, self.ports.clock.monotonic()) | self._evidence.young
        )
        engine.attend(watched | sick.filling)
        edge_port, its_turn = self.ports.traffic.edge_port, partial(is_its_turn, world)
        self.ports.outside.wish(calls(world, edge_port, its_turn))

    def _start(self, world: World, item: Instance) -> None:
        """Start an instance; what cannot be had now is tried again later."""
        try:
            self.ports.engine.start(self._spec_of(world, item))
        except (VoleryError, OSError) as error:  # one of them must not keep the others waiting
            self._driver.unstartable[item.id] = str(error)
        else:
            self._driver.unstartable.pop(item.id, None)

    def _ask_for_builds(self, world: World) -> None:
        """What no rollout waits for any more is given up: it would keep the newest from its turn,
        and its failure would be that of the next rollout to the same release."""
        waiting = [rollout for rollout in world.active_rollouts() if not has_begun(rollout)]
        wanted = {rollout.to_release for rollout in waiting}
        for name in world.builds:
            if name not in wanted:
                self.ports.builder.cancel(name)
        for rollout in waiting:
            release = world.releases[rollout.to_release]
            if rollout.phase is not Phase.PAUSED and not is_built(release, rollout):
                self.ports.builder.request(release, rollout.skip_tests)

    def act(self, service: str, verb: str, reason: str, *, full: bool = False) -> str:
        """Abort, pause, resume or promote the rollout of a service, by hand; returns its id.

        Raises:
            VoleryError: CONFLICT, there is none or it cannot be done now.
        """
        draft = self.draft()
        rollout = chosen(draft.world, service, verb)
        after, state = act(
            rollout, draft.world.services[service], verb, reason, draft.now, full=full
        )
        if verb == "promote":
            after = answered(draft.world, after)
        draft.put("service", service, state)
        draft.event(
            f"rollout.{verb}",
            f"{rollout.id}: {reason}",
            service=service,
            release=rollout.to_release,
            cause=reason,
            data={"rollout": rollout.id, "full": full},
        )
        record(draft, rollout, after)
        draft.commit()
        return rollout.id

    def histories(self) -> dict[str, History]:
        """What is known of each service's traffic."""
        draft = self.draft()
        return {name: self._evidence.history(draft, name) for name in draft.world.services}

    @property
    def gone(self) -> bool:
        """Whether nothing is wished to run (any more, or nothing ever was) and nothing does."""
        draft = self.draft()
        environment = draft.world.environment
        down = environment is None or not environment.running
        return down and not draft.world.instances and not draft.world.observed


_SAID = {
    "start": ("instance.started", "starts"),
    "prove": ("instance.ready", "is ready"),
    "drain": ("instance.draining", "is taken out of rotation"),
    "stop": ("instance.stopping", "is being stopped"),
    "forget": ("instance.gone", "is gone"),
}


def _apply(draft: Draft, operation: Operation) -> None:
    item = operation.instance
    if operation.verb == "forget":
        draft.drop("instance", item.id)
    else:
        draft.put("instance", item.id, item)
    kind, text = _SAID[operation.verb]
    because = "" if operation.because == f"it {text}" else f": {operation.because}"
    draft.event(
        kind,
        f"{item.id} {text}{because}",
        service=item.service,
        release=item.release,
        instance=item.id,
        cause=operation.because,
    )
