"""The ports: everything outside that Volery changes or looks at.

All are *level-triggered and non-blocking*: `observe()` returns at once what is known now, commands
are idempotent wishes that return at once and are carried out in the background, and a `wake`
callback says that looking again is worthwhile. So the controller is one synchronous function of
what it sees, can be killed between any two calls, and runs unchanged in the deterministic
simulation. A lost wake-up costs time, never correctness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from volery.model.application import Health, Resources, Stop
from volery.model.deploy import CustomMetric, Gate, Override, Sticky, Synthetic
from volery.model.evidence import Sample
from volery.model.needs import Need
from volery.model.state import Event, Look, Release, SlotName
from volery.model.tenure import Role

# --- engine ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InstanceSpec:
    """Everything an engine needs to run one instance. `environment` may hold secrets: never store,
    log or show it. The engine adds PORT and HOST."""

    id: str
    service: str
    release: str
    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    protocol: Literal["http", "http2", "grpc", "tcp"]
    health: Health
    resources: Resources
    stop: Stop
    volume: str | None = None
    role: tuple[str, ...] | None = None
    """The command that says its role."""
    secrets: frozenset[str] = frozenset()
    """The values in its environment to mask wherever output of the instance is shown."""


@dataclass(frozen=True)
class Exit:
    """How a process ended: exactly one of code and signal, unless neither is known."""

    code: int | None = None
    signal: str | None = None
    out_of_memory: bool = False
    at: float = 0.0

    def __str__(self) -> str:
        if self.out_of_memory:
            return "killed: out of memory"
        if self.signal:
            return f"killed by {self.signal}"
        return "exit code unknown" if self.code is None else f"exit code {self.code}"


REFUSED = "connection refused"
"""The `detail` of one at whose address nobody listens."""

RESTARTS = "it ended; it starts again"
"""The `detail` of one that has ended, as long as it is not known how."""


@dataclass(frozen=True)
class Observation:
    """What an engine knows of one instance now.

    `state`: *starting* (runs or is being restarted, not ready since), *ready*, *unready* (was
    ready, its readiness probe fails now), *stopping* (a stop is under way), *exited* (nothing of it
    runs and nothing will restart it).
    """

    id: str
    state: Literal["starting", "ready", "unready", "stopping", "exited"]
    address: str | None = None
    """host:port that the data plane should use."""
    pid: int | None = None
    started_at: float = 0.0
    restarts: int = 0
    alive: bool = True
    """False once the liveness probe failed as often as `health.failures` allows."""
    suspect: str = ""
    """Why its last probe failed, while that is not yet enough to say that it is unready."""
    hung: bool = False
    """As many probes as `health.failures` in a row got no answer at all."""
    unkept: bool = False
    """What keeps it has failed, so nothing that happens to it now speaks against what it runs."""
    detail: str = ""
    """In a few words why it is not ready: the last probe's answer, or how it ended."""
    exit: Exit | None = None
    """The latest exit, also of an earlier process of the same instance."""
    role: Role | None = None
    """What its process last said it is, if it ever did; after `unsure_since` that may be over."""
    position: int | None = None
    """How far its data is, as it said together with the role; grows with every write."""
    asked_at: float | None = None
    """Monotonic seconds when the question was put that `role` is the answer to."""
    unsure_since: float | None = None
    """Monotonic seconds since when its role is unknown: no process, or no usable answer. None
    while it is known, and for instances that have none."""
    volume: str = ""
    """What is wrong with its volume, such as *is gone* or *is read-only*; "" if nothing is."""
    volume_made: bool = False
    """Whether there was no volume when it started, so that it began with an empty one."""
    commands: Mapping[str, Answer] = field(default_factory=dict)
    """How the latest commands went that were run beside it, by key."""
    exits: tuple[Exit, ...] = ()
    """The latest few exits that are known, oldest first."""
    enforced: Mapping[str, str] = field(default_factory=dict)
    """Which limit is enforced by what: {"memory": "cgroup v1", "cpu": "not enforced"}."""
    cpu_seconds: float | None = None
    """Processor time of the whole tree since its process started; None if not known."""
    memory: int | None = None
    """Bytes the whole tree uses now; None if not known."""
    measured_at: float | None = None
    """Monotonic seconds when these two were measured."""


@dataclass(frozen=True)
class RoleWatch:
    """How the roles of a service are asked: with which VOLERY_TERM, and whether often, because
    somebody waits for the answer. With another `occasion` they are asked anew at once."""

    term: int
    often: bool = False
    occasion: str = ""


@dataclass(frozen=True)
class SideCommand:
    """A command to run beside an instance: in its folder, with its environment and these variables
    on top, for so long at most."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    seconds: float


class Engine(Protocol):
    """Runs instances."""

    def observe(self) -> Mapping[str, Observation]:
        """Every instance it knows of, by id."""

    def attend(self, services: frozenset[str]) -> None:
        """Measure what the instances of these services use about once a second, of others when
        there is time."""

    def start(self, spec: InstanceSpec) -> None:
        """Run this instance; nothing happens if it is already known.

        Raises:
            VoleryError: it could not write its volume, so it is not started; ask again."""

    def settle(self, instance: str) -> None:
        """From now on restart the instance by itself when it exits: its release is proven."""

    def stop(self, instance: str) -> None:
        """SIGTERM, grace, SIGKILL of the whole tree; ends in *exited*. Repeating it is harmless."""

    def kill(self, instance: str) -> None:
        """SIGKILL the whole tree now, also one that is being stopped, and restart it no more; ends
        in *exited*. For a primary that is fenced, and for what hangs."""

    def watch_roles(self, services: Mapping[str, RoleWatch]) -> None:
        """Ask the instances of these services for their role, about once a second or about ten
        times a second."""

    def command(self, instance: str, key: str, command: SideCommand) -> None:
        """Run this beside the instance, once for each key; its answer is observed. One that was
        under way when the engine was closed ends with it, and may be run again."""

    def forget(self, instance: str) -> None:
        """Drop an *exited* instance; its log is kept for a while."""

    def tail(self, instance: str, lines: int = 20) -> Sequence[str]:
        """The last lines it wrote, secrets masked; also after `forget`, while they are kept."""


# --- traffic --------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Endpoint:
    """One address of a group; a *draining* one gets no new request but finishes its old ones."""

    instance: str
    address: str
    draining: bool = False


@dataclass(frozen=True)
class GroupTraffic:
    """One slot of a service: its percentage of requests and where they may go.

    `protocol` is what its release speaks, where that is not the protocol of its service.
    """

    weight: float = 0
    endpoints: tuple[Endpoint, ...] = ()
    protocol: Literal["http", "http2", "grpc", "tcp"] | None = None


@dataclass(frozen=True)
class Split:
    """How requests find a group of a service, besides by weight. Only http, http2 and grpc.

    `canary` is the slot of the new release while it gets a share. Requests for which `override`
    holds go there on purpose, and if it is `tagged` so do those that came through the canary of a
    caller (their `baggage` says `volery-track=canary`). With `sticky` the same user stays in the
    same group as long as weights allow: a canary whose weight grows loses nobody. `mirror` is the
    percentage of requests of which a copy goes to the canary as well, its answers discarded: safe
    methods only, unless `mirror_all`.
    """

    canary: SlotName | None = None
    sticky: Sticky | None = None
    override: Override | None = None
    mirror: float = 0
    mirror_all: bool = False
    tagged: bool = True


@dataclass(frozen=True)
class ServiceTraffic:
    """One service as the data plane sees it: slots `a` and `b` always, `c` while it is used.

    `protocol` is what its callers speak. Groups may differ from it, but for tcp: a listener
    forwards either bytes or requests.
    """

    protocol: Literal["http", "http2", "grpc", "tcp"]
    slots: Mapping[SlotName, GroupTraffic]
    split: Split = Split()


@dataclass(frozen=True)
class Edge:
    """One caller group's connection to one need, on its own loopback port."""

    caller: str
    slot: SlotName
    need: str
    port: int
    policy: Need


SYNTHETIC_CALLER = "synthetic.volery"
"""Who calls on the edge of our own requests; no service can have this name."""


@dataclass(frozen=True)
class GatewayRoute:
    """One route of the gateway; `strip` is removed from the front of the path."""

    path: str
    service: str
    host: str | None = None
    strip: str | None = None


@dataclass(frozen=True)
class GatewayTraffic:
    """Where users come in."""

    host: str
    port: int
    routes: tuple[GatewayRoute, ...]


@dataclass(frozen=True)
class TrafficConfig:
    """The whole wish for the data plane. Compared by value: equal means nothing to do."""

    gateway: GatewayTraffic | None = None
    services: Mapping[str, ServiceTraffic] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True)
class TrafficStatus:
    """What the data plane is known to do.

    `acknowledged` is the highest generation that *every* live proxy has accepted in full.
    `in_flight` counts requests (connections for tcp) per instance, summed over proxies, sampled
    while generation `sampled` was already in force everywhere; an instance with none is absent.
    """

    acknowledged: int = 0
    rejected: str | None = None
    """The proxy's own words about the newest generation, if it refused it."""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    sampled: int = 0
    sampled_at: float = 0.0
    """Monotonic seconds of the sample."""
    proxies: tuple[int, ...] = ()
    """Process ids of the proxies."""
    ready: bool = False
    """At least one proxy serves what was acknowledged."""


class Traffic(Protocol):
    """Routes requests."""

    def apply(self, config: TrafficConfig, generation: int) -> None:
        """Make this the configuration. Generations only grow; an older one is ignored."""

    def observe(self) -> TrafficStatus:
        """What is acknowledged and in flight now."""

    def edge_port(self, caller: str, slot: SlotName, need: str) -> int:
        """The loopback port of an edge: chosen once, the same for ever in this environment."""

    def attend(self, services: frozenset[str]) -> None:
        """Sample these services about twice a second and wake for it, all others when there is
        time."""

    def sample(self) -> Sample:
        """The newest counters. Services that nobody attends to may be missing or old in it."""


# --- build ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BuildStatus:
    """How building and testing one release goes."""

    phase: Literal["building", "testing", "built", "failed"]
    failed_in: Literal["build", "test"] | None = None
    reason: str = ""
    tail: tuple[str, ...] = ()
    build_seconds: float = 0.0
    test_seconds: float = 0.0
    tested: bool = False
    """Of what is built: whether it passed its tests, if it has any."""


class Builder(Protocol):
    """Builds and tests releases."""

    def request(self, release: Release, skip_tests: bool) -> None:
        """Build and test this release; at once done if its artifact exists and passed."""

    def observe(self) -> Mapping[str, BuildStatus]:
        """By release id, those asked for since start."""

    def cancel(self, release: str) -> None:
        """Stop working on it and drop its status."""


# --- what is asked outside during a rollout --------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """How something that was asked outside went. `state`: *waiting* (asked, no answer yet), *yes*,
    *no* (it said so), *broken* (no usable answer: too late, not reachable, nonsense)."""

    state: Literal["waiting", "yes", "no", "broken"]
    text: str = ""
    """In one line what it said, or why there is no answer; never a secret."""
    value: float | None = None
    """A metric's value."""
    at: float = 0.0
    """Monotonic seconds when it was answered."""


@dataclass(frozen=True)
class Subject:
    """One group of a rollout, as those who are asked about it may need it."""

    service: str
    release: str
    track: str
    instances: Mapping[str, str] = field(default_factory=dict)
    """Address (host:port) of each ready instance, by id."""
    protocol: Literal["http", "http2", "grpc", "tcp"] = "http"
    """What the instances speak: a smoke test asks them directly."""


@dataclass(frozen=True)
class GateCall:
    """One gate to be asked. `about` goes along as JSON or as VOLERY_* variables: app, environment,
    service, release, rollout, when, step, weight."""

    gate: Gate
    subject: Subject
    about: Mapping[str, str]
    directory: str
    environment: Mapping[str, str] = field(repr=False)
    """What a command sees besides `about`; may hold secrets."""


@dataclass(frozen=True)
class MetricCall:
    """One custom metric of one group, measured every `metric.every` as long as it is asked for."""

    metric: CustomMetric
    subject: Subject
    about: Mapping[str, str]
    directory: str
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class SyntheticCall:
    """Requests made by us for want of users', as long as it is asked for, to `base_url` and the
    path of `synthetic`, with `headers` that lead to the group meant. The answer's `value` is how
    many were sent so far, its `text` how many of them failed."""

    synthetic: Synthetic
    base_url: str
    headers: Mapping[str, str]


OutsideCall = GateCall | MetricCall | SyntheticCall


class Outside(Protocol):
    """Asks gates and custom metrics and makes synthetic requests, each with a time limit."""

    def wish(self, calls: Mapping[str, OutsideCall]) -> None:
        """Keep exactly these going, by key. A gate is asked once for each key, by the call it had
        first; metrics and synthetic requests go on with the newest call of their key. A call whose
        key is no longer wished is cancelled and forgotten."""

    def observe(self) -> Mapping[str, Answer]:
        """By key, the newest answer to each call that is wished. A gate's is final; a metric
        that was measured is *yes* with its value, whatever its limit."""


# --- store and clock ------------------------------------------------------------------------------


DocumentKind = Literal[
    "environment",
    "service",
    "instance",
    "release",
    "rollout",
    "comparison",
    "past",
    "guard",
    "tenure",
    "heal",
    "edge",
]


@dataclass(frozen=True)
class Change:
    """One document to write, or to delete where `document` is None."""

    kind: DocumentKind
    key: str
    document: object | None


class Store(Protocol):
    """Remembers documents and events, durably and in one transaction."""

    def commit(
        self, changes: Sequence[Change], events: Sequence[Event], looks: Sequence[Look] = ()
    ) -> Sequence[Event]:
        """All or nothing, on disk when it returns; events come back with their sequence numbers.

        A look with a number that is there already replaces it; a rollout's looks go with it."""

    def looks(self, rollout: str) -> Sequence[Look]:
        """Every look at the evidence of a rollout, in order."""

    def documents(self, kind: str) -> Mapping[str, object]:
        """Every document of a kind, by key."""

    def events(
        self, after: int = 0, limit: int = 1000, service: str | None = None
    ) -> Sequence[Event]:
        """Events with a sequence number above `after`, oldest first."""

    def latest(
        self, limit: int = 1000, before: int | None = None, service: str | None = None
    ) -> Sequence[Event]:
        """The newest events, or those with the highest sequence numbers below `before`; oldest
        first."""

    def last_seq(self) -> int:
        """The sequence number of the newest event ever written; 0 if there was none."""


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Unix seconds; may jump."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
