"""The simulated adapters of the ports: one virtual machine room on virtual time.

Everything is driven by one heap of events and one seeded random source, so a history replays
exactly. Users are simulated too: every proxy sends requests by the configuration *it* has accepted,
and a request is lost when its instance goes away on purpose or was never ready.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from volery.decide.evidence import proxy_key
from volery.model.errors import VoleryError
from volery.model.evidence import Counters, ProxySample, Sample, bucket
from volery.model.ports import (
    BuildStatus,
    Exit,
    InstanceSpec,
    Observation,
    RoleWatch,
    ServiceTraffic,
    SideCommand,
    TrafficConfig,
    TrafficStatus,
)
from volery.model.state import Release, SlotName


class Violation(AssertionError):
    """An invariant did not hold."""


class Crash(Exception):
    """The control plane dies here."""


class Timeline:
    """Virtual time. Wall clock may jump; monotonic does not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.time = 0.0
        self.jump = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.time + seconds, self._count, act))

    def run_next(self) -> None:
        self.time, _, act = heapq.heappop(self._heap)
        act()

    def run_until(self, time: float) -> None:
        heap, pop = self._heap, heapq.heappop
        while self.time < time:
            self.time, _, act = pop(heap)
            act()

    def now(self) -> float:
        return 1_800_000_000.0 + self.time + self.jump

    def monotonic(self) -> float:
        return self.time


FAILING = {"errors": 0.5, "dead": 1.0}

ENDED = "it ended"
"""What is said of a process until its successor is ready or asked."""


@dataclass
class Behaviour:
    """How instances of a release behave, and what their users get."""

    kind: str = "good"  # good | crash | never-ready | dies-later | errors | slow | dead | hung
    start_seconds: float = 0.3

    @property
    def failing(self) -> float:
        return FAILING.get(self.kind, 0.002)

    @property
    def slower(self) -> float:
        return 4.0 if self.kind == "slow" else 1.0


@dataclass
class Process:
    spec: InstanceSpec
    seen: Observation
    settled: bool = False
    epoch: int = 0
    stopping: bool = False
    crashed: bool = False
    behaviour: Behaviour = field(default_factory=Behaviour)


class SimEngine:
    """Instances that start slowly, crash, hang, and stop when told."""

    def __init__(self, line: Timeline, behaviour: Callable[[str], Behaviour]) -> None:
        self.line = line
        self.behaviour = behaviour
        self.processes: dict[str, Process] = {}
        self.wake: Callable[[], None] = lambda: None
        self.on_stop: Callable[[str], None] = lambda _: None
        self.on_exit: Callable[[str], None] = lambda _: None
        self.started: Counter[str] = Counter()
        self._addresses = 20000
        self.ill: dict[str, Behaviour] = {}
        """Single instances that behave otherwise than their release."""
        self.from_its_start: Callable[[str], Behaviour | None] = lambda _: None
        """The same, for one that does so as soon as it is started."""
        self.attended: frozenset[str] = frozenset()
        self.role_watches: Mapping[str, RoleWatch] = {}

    def observe(self) -> Mapping[str, Observation]:
        return {key: process.seen for key, process in self.processes.items()}

    def attend(self, services: frozenset[str]) -> None:
        self.attended = services

    def start(self, spec: InstanceSpec) -> None:
        if spec.id in self.processes:
            return
        self._exclusive_volume(spec)
        self.ill.pop(spec.id, None)  # another one that has its number
        self._addresses += 1
        self.started[spec.id] += 1
        address = f"127.0.0.1:{self._addresses}"
        seen = Observation(spec.id, "starting", address, started_at=self.line.now())
        self.processes[spec.id] = Process(spec, seen)
        self._boot(spec.id)

    def _exclusive_volume(self, spec: InstanceSpec) -> None:
        for other in self.processes.values():
            if spec.volume and other.spec.volume == spec.volume and other.seen.state != "exited":
                raise Violation(f"{spec.id} and {other.spec.id} write one volume")

    def _boot(self, identity: str) -> None:
        process = self.processes[identity]
        process.epoch += 1
        own = self.from_its_start(identity)
        process.behaviour = own or self.behaviour(process.spec.release)
        epoch, behaviour = process.epoch, process.behaviour
        delay = behaviour.start_seconds * self.line.random.uniform(0.5, 2)

        def finish() -> None:
            if self.processes.get(identity) is not process or process.epoch != epoch:
                return
            if behaviour.kind == "crash":
                self.exit(identity, 1)
            elif behaviour.kind != "never-ready":
                self._set(identity, state="ready")
                if behaviour.kind == "dies-later":
                    self.line.after(
                        self.line.random.uniform(0.1, 3), lambda: self._die(identity, epoch)
                    )

        self.line.after(delay, finish)

    def _die(self, identity: str, epoch: int) -> None:
        process = self.processes.get(identity)
        if process and process.epoch == epoch and not process.stopping:
            self.exit(identity, 1)

    def exit(self, identity: str, code: int) -> None:
        """The process ends by itself; the shim restarts it if it is settled."""
        process = self.processes[identity]
        process.epoch += 1
        process.crashed = True
        self.on_exit(identity)
        ended = Exit(code=code, at=self.line.now())
        exits = (*process.seen.exits, ended)[-10:]
        seen = replace(process.seen, exits=exits, memory=None, measured_at=None)
        # Its probes end with it, and what they said.
        process.seen = replace(seen, alive=True, suspect="", hung=False, detail=ENDED)
        self.ill.pop(identity, None)
        if process.settled and not process.stopping:
            seen = process.seen
            self._set(identity, state="starting", restarts=seen.restarts + 1, exit=ended)
            wait = min(10.0, 0.1 * 2 ** min(seen.restarts, 8))
            self.line.after(wait, lambda: self._reboot(identity))
        else:
            self._set(identity, state="exited", exit=ended)

    def _reboot(self, identity: str) -> None:
        process = self.processes.get(identity)
        if process and process.seen.state == "starting" and not process.stopping:
            process.crashed = False
            self._boot(identity)

    def _set(self, identity: str, **changes: object) -> None:
        process = self.processes[identity]
        process.seen = replace(process.seen, **changes)  # type: ignore[arg-type]
        self.wake()

    def hang(self, identity: str) -> None:
        self._set(identity, alive=False, detail="liveness probe timed out")

    def settle(self, instance: str) -> None:
        if instance in self.processes:
            self.processes[instance].settled = True

    def stop(self, instance: str) -> None:
        process = self.processes.get(instance)
        if process is None or process.stopping or process.seen.state == "exited":
            return
        self.on_stop(instance)
        process.stopping = True
        process.epoch += 1
        self._set(instance, state="stopping")
        delay = self.line.random.uniform(0.05, 1.5)
        self.line.after(delay, lambda: self._stopped(instance, process))

    def kill(self, instance: str) -> None:
        process = self.processes.get(instance)
        if process is None or process.seen.state == "exited":
            return
        process.stopping = True
        process.epoch += 1
        self._set(instance, state="exited", exit=Exit(signal="SIGKILL", at=self.line.now()))

    def watch_roles(self, services: Mapping[str, RoleWatch]) -> None:
        self.role_watches = services

    def command(self, instance: str, key: str, command: SideCommand) -> None:
        raise Violation(f"{instance} has no commands to run: {key}")

    def _stopped(self, identity: str, process: Process) -> None:
        if self.processes.get(identity) is process:
            self._set(identity, state="exited", exit=Exit(signal="SIGTERM", at=self.line.now()))

    def forget(self, instance: str) -> None:
        if instance in self.processes and self.processes[instance].seen.state == "exited":
            del self.processes[instance]

    def tail(self, instance: str, lines: int = 20) -> Sequence[str]:
        return [f"last words of {instance}"]


@dataclass
class Proxy:
    """One Envoy: the configuration it accepted and the requests it has under way."""

    pid: int
    started: float = 0.0
    generation: int = 0
    config: TrafficConfig = field(default_factory=TrafficConfig)
    groups: dict[str, Tally] = field(default_factory=dict)
    served: dict[str, Tally] = field(default_factory=dict)
    instances: dict[str, Tally] = field(default_factory=dict)
    _tallies: dict[tuple[str, str], tuple[Tally, Tally, Tally]] = field(default_factory=dict)

    def count(self, group: str, instance: str, failed: bool, ms: float) -> None:
        """One answered request."""
        found = self._tallies.get((group, instance))
        if found is None:
            number = f"{group}~{instance.rpartition('-')[2]}"
            found = self._tallies[group, instance] = (
                self.groups.setdefault(group, Tally()),
                self.instances.setdefault(instance, Tally()),
                self.served.setdefault(number, Tally()),
            )
        index = bucket(ms)
        of_group, of_instance, served = found
        for tally in (of_group, served):
            tally.requests += 1
            tally.failures += failed
            tally.latency[index] = tally.latency.get(index, 0) + 1
        of_instance.requests += 1  # its latency is not known by its name: see `ProxySample`
        of_instance.failures += failed


@dataclass
class Tally:
    """What a proxy counted; it is gone with the proxy."""

    requests: int = 0
    failures: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    _counters: Counters = field(default_factory=Counters)

    def counters(self) -> Counters:
        """The same object as before if nothing came since."""
        if self._counters.requests != self.requests:
            self._counters = Counters(self.requests, self.failures, dict(self.latency))
        return self._counters


class Ways:
    """Where requests to a service may go by one configuration, each instance with its group."""

    def __init__(self, service: str, routed: ServiceTraffic) -> None:
        self.routed = routed
        choices = [
            (
                (endpoint.instance, f"{service}~{slot}"),
                group.weight / max(1, sum(not e.draining for e in group.endpoints)),
            )
            for slot, group in routed.slots.items()
            for endpoint in group.endpoints
            if not endpoint.draining and group.weight > 0
        ]
        self.targets = [target for target, _ in choices]
        self._bounds = list(accumulate(weight for _, weight in choices))

    def pick(self, random: float) -> tuple[str, str]:
        """One of them by weight; `random` is from 0 to 1."""
        return self.targets[
            bisect(self._bounds, random * self._bounds[-1], 0, len(self.targets) - 1)
        ]


class SimTraffic:
    """Proxies that accept configurations a little later, and users behind them."""

    def __init__(self, line: Timeline, engine: SimEngine) -> None:
        self.line = line
        self.engine = engine
        self.wake: Callable[[], None] = lambda: None
        self.proxies = [Proxy(1)]
        self.wanted: tuple[int, TrafficConfig] = (0, TrafficConfig())
        self.in_flight: Counter[str] = Counter()
        self.lost: list[str] = []
        self.answered: Counter[str] = Counter()
        self._sampled = (0, dict[str, int](), 0.0)
        self._counted = Sample()
        self.attended: frozenset[str] = frozenset()
        self._ports: dict[tuple[str, SlotName, str], int] = {}
        self._ways: dict[str, Ways] = {}
        engine.on_exit = self._cut_off

    def attend(self, services: frozenset[str]) -> None:
        self.attended = services

    def sample(self) -> Sample:
        return self._counted

    def count(self) -> None:
        """Look at the proxies' counters, about once a second; now and then none answers."""
        if self.line.random.random() > 0.1:
            proxies = {
                proxy_key(proxy.pid, proxy.started): ProxySample(
                    {key: tally.counters() for key, tally in proxy.groups.items()},
                    {key: tally.counters() for key, tally in proxy.instances.items()},
                    served={key: tally.counters() for key, tally in proxy.served.items()},
                )
                for proxy in self.proxies
            }
            self._counted = Sample(self._counted.number + 1, self.line.time, proxies)
            self.wake()
        self.line.after(1.0, self.count)

    def edge_port(self, caller: str, slot: SlotName, need: str) -> int:
        return self._ports.setdefault((caller, slot, need), 30000 + len(self._ports))

    def apply(self, config: TrafficConfig, generation: int) -> None:
        # A new control plane counts from the start again: see `new_control_plane`.
        if generation <= self.wanted[0]:
            return
        self.wanted = (generation, config)
        self._sampled = (0, {}, self.line.time)
        for proxy in self.proxies:
            self._send(proxy)

    def _send(self, proxy: Proxy) -> None:
        generation, config = self.wanted

        def accept() -> None:
            if proxy in self.proxies and self.wanted[0] == generation and self.wanted[1] is config:
                proxy.generation, proxy.config = generation, config
                self.wake()
                self.line.after(0.1, self._sample)

        self.line.after(self.line.random.uniform(0.002, 0.1), accept)

    def _sample(self) -> None:
        acknowledged = self._acknowledged()
        draining = self._draining()
        busy = {key: self.in_flight[key] for key in draining if self.in_flight[key]}
        before = self._sampled
        self._sampled = (acknowledged, busy, self.line.time)
        if before[0] != acknowledged or before[1].keys() != busy.keys():
            self.wake()
        if busy:
            self.line.after(0.1, self._sample)

    def _acknowledged(self) -> int:
        return min([proxy.generation for proxy in self.proxies])

    def _draining(self) -> list[str]:
        """Like the real adapter: what is in flight matters where something is to be stopped."""
        return [
            endpoint.instance
            for routed in self.wanted[1].services.values()
            for group in routed.slots.values()
            for endpoint in group.endpoints
            if endpoint.draining
        ]

    def new_control_plane(self) -> None:
        """Nothing is known to be acknowledged until the new one has sent something."""
        self.wanted = (0, TrafficConfig())
        for proxy in self.proxies:
            proxy.generation = 0
        self._sampled = (0, {}, self.line.time)

    def restart_proxy(self) -> None:
        """Envoy is killed: requests it had are lost (nobody's fault), a new one starts empty."""
        old = self.proxies[0]
        self.proxies = [Proxy(old.pid + 1, self.line.time, 0, old.config)]
        self.in_flight.clear()
        self.line.after(0.2, lambda: self._send(self.proxies[0]))

    def observe(self) -> TrafficStatus:
        generation, busy, at = self._sampled
        return TrafficStatus(
            acknowledged=self._acknowledged(),
            in_flight=busy,
            sampled=generation,
            sampled_at=at,
            ready=True,
        )

    def request(self, service: str) -> None:
        """One user's request, by the configuration of a proxy."""
        proxy = self.line.random.choice(self.proxies)
        routed = proxy.config.services.get(service)
        if routed is None:
            return
        ways = self._ways.get(service)
        if ways is None or ways.routed is not routed:
            ways = self._ways[service] = Ways(service, routed)
        if not ways.targets:
            return
        target, group = ways.pick(self.line.random.random())
        process = self.engine.processes.get(target)
        if process is None or process.stopping:
            self.lost.append(f"{target} was stopped while requests still went to it")
            return
        if process.seen.state not in ("ready", "unready"):
            return  # it crashed a moment ago: not our doing
        self.in_flight[target] += 1
        pid, epoch = proxy.pid, process.epoch
        slow = self.line.random.random() < 0.05
        seconds = self.line.random.uniform(0.5, 4) if slow else self.line.random.uniform(0, 0.1)
        self.line.after(seconds, lambda: self._answered(target, group, pid, process, epoch))

    def _cut_off(self, instance: str) -> None:
        """What a process had in flight ends with it."""
        self.in_flight[instance] = 0

    def _answered(self, target: str, group: str, pid: int, process: Process, epoch: int) -> None:
        proxy = self.proxies[0]
        if pid != proxy.pid or process.epoch != epoch:
            return
        behaviour = self.engine.ill.get(target, process.behaviour)
        if behaviour.kind == "hung":
            return
        self.in_flight[target] -= 1
        self.answered[process.spec.release] += 1
        failed = self.line.random.random() < behaviour.failing
        ms = self.line.random.lognormvariate(3.0, 0.8) * behaviour.slower
        proxy.count(group, target, failed, ms)


class SimBuilder:
    """Builds that take a while and sometimes fail."""

    def __init__(self, line: Timeline, bad: Callable[[str], str]) -> None:
        self.line = line
        self.bad = bad
        self.wake: Callable[[], None] = lambda: None
        self.builds: dict[str, BuildStatus] = {}
        self.takes = 0.1, 2.0
        """The fewest and the most seconds of a build."""
        self.asked: dict[str, tuple[Release, bool]] = {}
        """Releases by id, and whether their tests are skipped."""

    def observe(self) -> Mapping[str, BuildStatus]:
        return dict(self.builds)

    def request(self, release: Release, skip_tests: bool) -> None:
        known = self.builds.get(release.id)
        wanted = known is not None and known.phase == "built" and not (known.tested or skip_tests)
        if known is not None and not wanted:
            return
        self.asked[release.id] = release, skip_tests
        self.builds[release.id] = BuildStatus("building")
        self.line.after(self.line.random.uniform(*self.takes), lambda: self._finish(release.id))

    def _finish(self, release: str) -> None:
        if release not in self.builds:
            return
        asked, skip_tests = self.asked[release]
        failed = self.bad(release)
        if failed and not (failed == "tests" and skip_tests):
            where = "test" if failed == "tests" else "build"
            self.builds[release] = BuildStatus("failed", where, f"{where} failed")  # type: ignore[arg-type]
        else:
            tested = not (skip_tests and asked.spec.test)
            self.builds[release] = BuildStatus("built", build_seconds=0.5, tested=tested)
        self.wake()

    def cancel(self, release: str) -> None:
        self.builds.pop(release, None)

    def forget(self) -> None:
        """The control plane died and its builds with it."""
        self.builds.clear()


class Fuse:
    """Makes the control plane die, or the disk be full, at a chosen call."""

    def __init__(self) -> None:
        self.crash_in: int | None = None
        self.disk_full = False

    def burn(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash_in = None
                raise Crash


class Fused:
    """A port whose commands may be the last thing the control plane does."""

    def __init__(self, inner: object, fuse: Fuse, commands: frozenset[str]) -> None:
        self._inner, self._fuse, self._commands = inner, fuse, commands

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name in self._commands:
            found = self._fused(name, found)
        if callable(found):
            setattr(self, name, found)  # asked only once
        return found

    def _fused(self, name: str, found: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            if name == "commit" and self._fuse.disk_full:
                raise VoleryError("the disk is full")
            self._fuse.burn()
            result = found(*args)
            self._fuse.burn()
            return result

        return call
