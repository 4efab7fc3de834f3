"""What Volery remembers: the desired state of an environment, as immutable documents.

The store keeps these as JSON, one document per (kind, key), changed together with the events that
explain the change. Controllers compare them with what engine and traffic observe.

Terms: a *slot* ("a" or "b") is one of the two permanent places of a service in the data plane (a
third, "c", is for the baseline of a canary); a *group* is the instances in a slot; the *active*
slot holds the release that is live.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from volery.model.application import Application, Route, Service
from volery.model.evidence import Arm, Line, Verdict

SlotName = Literal["a", "b", "c"]
SLOTS: tuple[SlotName, ...] = ("a", "b", "c")
"""Releases take turns in `a` and `b`; `c` is only there for a canary's baseline group."""
BASELINE: SlotName = "c"


def other(slot: SlotName) -> SlotName:
    """The other one of the two slots in which releases take turns."""
    return "b" if slot == "a" else "a"


class Track(StrEnum):
    """What a group is for."""

    STABLE = "stable"
    CANARY = "canary"
    BASELINE = "baseline"
    BLUE = "blue"
    GREEN = "green"


class Phase(StrEnum):
    """Where a rollout is. See `decide.rollout.TRANSITIONS` for what may follow what."""

    BUILDING = "building"
    TESTING = "testing"
    STARTING = "starting"
    SHIFTING = "shifting"
    ANALYSING = "analysing"
    PAUSED = "paused"
    PROMOTING = "promoting"
    ROLLING_BACK = "rolling_back"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


ENDED = frozenset({Phase.DONE, Phase.ROLLED_BACK, Phase.FAILED})


@dataclass(frozen=True)
class Event:
    """One line of the ledger: what happened, to what, and because of what. `at` is Unix seconds."""

    at: float
    kind: str
    text: str
    service: str | None = None
    release: str | None = None
    instance: str | None = None
    cause: str | None = None
    data: dict[str, object] = field(default_factory=dict)
    seq: int = 0


@dataclass(frozen=True)
class Release:
    """An immutable result of building one service: artifact and the configuration it runs with.

    `state`: *new* (not yet built), *built* (tests passed or skipped), *live*, *kept* (was live, can
    come back), *refused* (tests, health or analysis said no), *failed* (could not be built), *gone*
    (artifact deleted).
    """

    id: str
    service: str
    artifact: str
    spec: Service
    created_at: float
    by: str = ""
    commit: str = ""
    secret_versions: dict[str, int] = field(default_factory=dict)
    state: Literal["new", "built", "live", "kept", "refused", "failed", "gone"] = "new"
    reason: str = ""
    tested: bool = False
    """Whether it is known to have passed its tests."""
    base_env: dict[str, str] = field(default_factory=dict)
    """The variables of who asked for it last, seen by its build, its tests and all that runs of it;
    none: the environment's."""


@dataclass(frozen=True)
class Slot:
    """A group that should exist: its release, how many instances, what percentage of requests."""

    release: str
    track: Track
    count: int
    weight: float
    mirror: float = 0
    """Percentage of the requests of which it gets a copy."""


@dataclass(frozen=True)
class ServiceState:
    """Desired state of one service. `scale` is how many instances the active group should have."""

    name: str
    config: Service
    scale: int
    slots: dict[SlotName, Slot | None] = field(default_factory=lambda: {"a": None, "b": None})
    active: SlotName = "a"
    warm_until: float | None = None
    removing: bool = False
    start_failures: int = 0
    start_not_before: float = 0.0
    root: str = ""
    """Folder of the manifest that `config` is from; "": the environment's."""
    start_trouble: str = ""
    """Which instance did not come up last, and why; while `start_failures` is more than 0."""

    @property
    def live(self) -> Slot | None:
        """The group that serves, if there is one."""
        return self.slots[self.active]


@dataclass(frozen=True)
class Instance:
    """One instance that should run, be drained or be stopped, `since` when."""

    id: str
    service: str
    slot: SlotName
    release: str
    intent: Literal["run", "drain", "stop"]
    since: float
    created_at: float
    proven: bool = False
    restarts: int = 0
    condemned: str = ""
    """Why it will be replaced."""
    fenced: bool = False
    """It is to be killed, not asked to end."""
    heal: str = ""
    """The heal that replaces it."""
    withheld: bool = False
    """It gets no request while another one of its group can have it."""
    hung: bool = False
    """It will never answer: it is ended without drain and without grace."""
    unstartable: str = ""
    """Why it cannot even be asked for."""
    volume: str = ""
    """What is wrong with its volume, as far as it was told."""
    volume_made: bool = False
    """Whether it was told that it began with an empty one."""
    because: str = ""


@dataclass(frozen=True)
class Rollout:
    """The durable, step-by-step change of one service from one release to another."""

    id: str
    service: str
    to_release: str
    strategy: Literal["canary", "blue-green", "rolling", "recreate"]
    slot: SlotName
    group: str
    created_at: float
    since: float
    from_release: str | None = None
    cause: Literal["up", "deploy", "rollback", "restart", "heal"] = "deploy"
    phase: Phase = Phase.BUILDING
    resume_to: Phase | None = None
    paused_for: Literal["", "person", "gate", "approval", "evidence"] = ""
    """What it waits for: somebody who paused it, a gate's yes, `promote`, or enough evidence."""
    waits_for: tuple[str, ...] = ()
    skip_tests: bool = False
    weight: float = 0
    step: int = 0
    steps: int = 1
    shares: tuple[float, ...] = ()
    """The steps of a canary, chosen when it was asked for; none: as its service's `deploy` says."""
    passed: int = 0
    """Steps whose evidence sufficed, or that a person let pass."""
    approved: bool = False
    """A person let it take the last step."""
    waived: tuple[str, ...] = ()
    """Gates that a person let it pass."""
    attempt: int = 0
    """Counts how often a person let it go on, so that gates are asked anew."""
    verdict: Verdict | None = None
    reason: str = ""
    evidence: tuple[Line, ...] = ()
    tail: tuple[str, ...] = ()
    ready_before: int | None = None
    """How many instances of the old group were ready when it began; a return waits for no more."""
    denied: bool = False
    """A gate said no when it had begun."""
    no_baseline: str = ""
    """Why its baseline was given up; "" if it was not."""
    superseded_by: str = ""
    given_up: bool = False
    """It ended because its service leaves, which says nothing to the others of its group."""
    finished_at: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    by: str = ""
    back_to: str | None = None
    """An earlier release than `from_release` that somebody wants when this one was turned round."""
    back_by: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.phase in ENDED


@dataclass(frozen=True)
class Look:
    """One look at the evidence of a rollout, kept so that its decisions can be replayed.

    `seconds` is how long it covers, `weight` the share (0 to 1) of the compared requests that the
    new release should get, `next_weight` the share the step asks for, `in_step` how long the step
    has been looked at, `fresh` the share (0 to 1) of the new release's instances that had come
    since the look before.
    """

    rollout: str
    number: int
    at: float
    seconds: float
    step: int
    weight: float
    next_weight: float
    in_step: float
    canary: Arm
    control: Arm
    verdict: Verdict
    fresh: float = 0.0
    alarms_only: bool = False
    """Whether copies were all the new release got, and not like what the old one got."""
    begins: bool = False
    """Whether the shares of its step came into force with it: what was seen before speaks for no
    step."""
    old: Arm = field(default_factory=Arm)
    """The old group without its latencies, where it is not the control: that is a baseline, or
    there is none because only some kinds of requests are copied."""
    percent: float | None = None
    """Of all requests: what the new release should get; None where an earlier version looked."""


@dataclass(frozen=True)
class EnvironmentState:
    """One environment of an application: its manifest as last applied; should it run?"""

    application: Application
    name: str
    root: str
    """Folder of the manifest that was applied last as a whole."""
    running: bool = True
    base_env: dict[str, str] = field(default_factory=dict)
    """The five variables of the caller that services may see: PATH, HOME, LANG, TZ, TMPDIR. As
    `root` they are of who applied all of it last: a deploy of some services is about these."""
    awaited: tuple[str, ...] = ()
    """Services that routes of the manifest lead to and that have not served yet."""
    routes_before: tuple[Route, ...] = ()
    """The routes that were in force when the manifest was applied, while services are awaited."""
