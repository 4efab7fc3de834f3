"""The guard: one budget for all disruption, whoever causes it.

Every change to an instance passes here between deciding and doing. What disturbs nobody passes at
once: starting, stopping what serves nobody, and taking away what is *surplus* because its
replacement serves already. The rest is a *request* for a part of the budget and passes, or waits
with a reason and with what would release it.

Order: instances that harm users, ways back, people, heals, rollouts, sizes, experiments; among
equals who waits longest. Waiting raises the rank, and who waits for the environment's budget is
overtaken by nobody behind, so none starves. Nothing waits for another request: a budget is free
again when a service has its size, or when that took longer than it can take, so nothing deadlocks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from volery.decide.brake import braked, noted
from volery.decide.capacity import Capacity, adds_first, capacities, may_leave_a_gap
from volery.decide.group import Operation
from volery.decide.upkeep import is_leaving
from volery.decide.world import World
from volery.model.budget import Guard
from volery.model.guard import Cause, Disturbance, GuardState, Waiting
from volery.model.state import Phase, ServiceState
from volery.model.tenure import Step

__all__ = [
    "Request",
    "Ruling",
    "admit",
    "braked",
    "has_room",
    "limit_of",
    "noted",
    "policy_of",
    "wanted_by",
]

HARM, BACK = 0, 1
RANKS: Mapping[Cause, int] = {
    "person": 2,
    "heal": 3,
    "rollout": 4,
    "scale": 5,
    "chaos": 6,
    "leaving": 2,
}
RANK_UP_SECONDS = 30.0
"""After so long a waiting request goes before those of the rank above."""
SPARE_SECONDS = 30.0
"""How much longer than its limits say a replacement may take before nobody waits for it."""


@dataclass(frozen=True)
class Request:
    """What wants to disturb one service: one instance, or all of them where they go together."""

    operations: tuple[Operation, ...]
    cause: Cause
    rank: int
    ticket: int
    gap: bool
    """It may leave the service without a ready instance."""

    @property
    def service(self) -> str:
        """Which service."""
        return self.operations[0].instance.service

    @property
    def key(self) -> str:
        """The instance it is about, or the first of them."""
        return self.operations[0].instance.id

    @property
    def urgent(self) -> bool:
        """Whether brake and velocity do not hold it."""
        return self.rank in (HARM, BACK)


@dataclass(frozen=True)
class Hold:
    """Why a request does not pass, and what would release it. `shared`: it waits for something
    that everybody shares, so nobody behind it may take that away."""

    because: str
    until: str
    shared: bool = False


@dataclass(frozen=True)
class Ruling:
    """What may be done now, and what the guard remembers from here on."""

    passed: tuple[Operation, ...]
    state: GuardState
    news: tuple[Waiting, ...] = ()
    """Those that began to wait at this look."""


def wanted_by(world: World, service: ServiceState) -> Cause:
    """Who wants the slots of a service as they are now."""
    if is_leaving(world, service):
        return "leaving"
    rollout = world.rollout_of(service.name)
    if rollout is None:
        return "scale"
    return "person" if rollout.cause == "restart" else "rollout"


def policy_of(world: World) -> Guard:
    """The limits of this environment."""
    environment = world.environment
    if environment is None or environment.name not in environment.application.environments:
        return Guard()
    return environment.application.environments[environment.name].guard


def limit_of(world: World, disturbed: int) -> tuple[int, int]:
    """How many instances that are needed serve, and how many may be disturbed at once, if so many
    are now."""
    return _limit(capacities(world).values(), policy_of(world), disturbed)


def has_room(world: World, service: ServiceState) -> bool:
    """Whether the share lets one more instance of a service be disturbed now."""
    there = len(world.guard.disturbed)
    return not there or _goes_back(world, service.name) or there < limit_of(world, there)[1]


def _limit(known: Iterable[Capacity], policy: Guard, disturbed: int) -> tuple[int, int]:
    ready = sum(min(len(item.serving), item.needed) for item in known)
    return ready, max(1, int(policy.at_once * (ready + disturbed)))


def admit(
    world: World, asked: Sequence[Operation], now: float, age: Callable[[Hashable], float]
) -> Ruling:
    """Which of these changes may be made now.

    `now` is Unix seconds; `age(key)` is how many seconds, on a clock that never jumps, something
    has been so.
    """
    suspects = [item for item in asked if _takes_away(world, item)]
    paced = [item for item in asked if item.verb == "start" and item.cause in ("heal", "scale")]
    idle = not world.guard.disturbed and not world.guard.waiting
    if not suspects and not paced and idle:
        return Ruling(tuple(asked), world.guard)
    desk = _Desk(world, policy_of(world), now, age)
    held: dict[int, Hold] = {}
    for request in desk.queue(suspects):
        hold = desk.decide(request)
        if hold is not None:
            held |= {id(item): hold for item in request.operations}
    held |= _paced(world, paced, desk.policy.starts, age)
    passed = tuple(item for item in asked if id(item) not in held)
    waiting, news, tickets = _waiting(world.guard, asked, held, now)
    state = replace(
        world.guard,
        disturbed=tuple(desk.disturbed),
        passed=tuple(desk.recent),
        waiting=waiting,
        tickets=tickets,
    )
    return Ruling(passed, state, news)


def _takes_away(world: World, item: Operation) -> bool:
    """Whether an instance that is ready to serve is taken away. A fence asks nobody: two primaries
    are worse than none."""
    before = world.instances.get(item.instance.id)
    if item.verb not in ("drain", "stop") or before is None or before.intent != "run":
        return False
    if item.instance.fenced:
        return False
    return world.ready(before)


@dataclass
class _Desk:
    """The budget while one look's requests are decided, one after the other."""

    world: World
    policy: Guard
    now: float
    age: Callable[[Hashable], float]
    blocked: Hold | None = None
    taken: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.capacity: Mapping[str, Capacity] = capacities(self.world)
        kept = list(_still_disturbed(self.world, self.capacity, self.age))
        self.disturbed = kept[::-1]
        window = self.policy.velocity.within
        # A moment in the future: the wall clock was set back.
        self.recent = [at for at in self.world.guard.passed if 0 <= self.now - at < window]
        ready, self.limit = _limit(self.capacity.values(), self.policy, len(self.disturbed))
        self.whole = ready + len(self.disturbed)

    def queue(self, suspects: Iterable[Operation]) -> list[Request]:
        """The requests, in the order in which they are decided."""
        known = {item.instance: item for item in self.world.guard.waiting}
        together: dict[str, list[Operation]] = {}
        for item in suspects:
            service = self.world.services[item.instance.service]
            if item.instance.id not in self.capacity[service.name].serving:
                continue
            key = f"{service.name} at once" if _go_together(self.world, service) else ""
            together.setdefault(key or item.instance.id, []).append(item)
        found = [self._request(items, known) for items in together.values()]
        return sorted(found, key=lambda item: (item.rank, item.ticket, item.key))

    def _request(self, items: list[Operation], known: Mapping[str, Waiting]) -> Request:
        first = items[0]
        service = self.world.services[first.instance.service]
        before = known.get(first.instance.id)
        rank = _rank(self.world, first)
        if rank > RANKS["person"] and before is not None:
            waited = self.age(("waits", first.instance.id))
            rank = max(RANKS["person"], rank - int(waited / RANK_UP_SECONDS))
        ticket = before.ticket if before else self.world.guard.tickets + 1
        # Where nothing can be added first, one that only harms leaves before its successor comes.
        dead = first.harms and not adds_first(service.config)
        gap = dead or may_leave_a_gap(self.world, service)
        return Request(tuple(items), first.cause, rank, ticket, gap)

    def decide(self, request: Request) -> Hold | None:
        """Let it pass, and take what it needs from the budget; or say why not."""
        if request.cause == "leaving":
            return None
        capacity = self.capacity[request.service]
        gone = self.taken.get(request.service, 0)
        left = len(capacity.serving) - gone - len(request.operations)
        hold = self._own_hold(request, capacity, left)
        if hold is not None:
            return hold
        lost = capacity.missing(gone + len(request.operations)) - capacity.missing(gone)
        hold = self._shared_hold(request, lost) if lost else None
        if hold is None:
            self._take(request, lost)
        elif not self.blocked:
            self.blocked = hold
        return hold

    def _own_hold(self, request: Request, capacity: Capacity, left: int) -> Hold | None:
        """What only its own service can release."""
        name = request.service
        if left < capacity.floor and not request.gap:
            return Hold(
                f"{name} would have {left} ready instance{'' if left == 1 else 's'}"
                f" and needs {capacity.floor}",
                f"another instance of {name} becomes ready",
            )
        stands = braked(self.world.guard, name)
        if stands and request.cause == "heal" and not request.urgent:
            return Hold(f"automation stands still: {stands}", f"volery guard release {name}")
        return None

    def _shared_hold(self, request: Request, lost: int) -> Hold | None:
        """What others use up. Somebody may always go when nobody else is disturbed."""
        if request.rank == BACK or self._has_begun(request):
            return None
        if self.blocked and request.rank != HARM:
            return replace(self.blocked, because=f"others wait before it: {self.blocked.because}")
        there = len(self.disturbed)
        if there and there + lost > self.limit:
            names = ", ".join(sorted({item.service for item in self.disturbed}))
            return Hold(
                f"{there} of at most {self.limit} instances are disturbed"
                f" ({self.policy.at_once:.0%} of {self.whole})",
                f"{names} {'has' if ',' not in names else 'have'} all instances again",
                shared=True,
            )
        velocity = self.policy.velocity
        if self.recent and len(self.recent) + lost > velocity.at_most and not request.urgent:
            return Hold(
                f"{len(self.recent)} of at most {velocity.at_most} disturbances"
                f" within {velocity.within:g}s",
                "time",
                shared=True,
            )
        return None

    def _has_begun(self, request: Request) -> bool:
        """Whether to hold it would only make a gap longer: part of a service is gone of which
        nothing comes back before all of it has, or a primary takes no writes any more."""
        name = request.service
        going = any(item.service == name for item in self.disturbed)
        together = _go_together(self.world, self.world.services[name])
        return (going and together) or _is_handing_over(self.world, request)

    def _take(self, request: Request, lost: int) -> None:
        name = request.service
        self.taken[name] = self.taken.get(name, 0) + len(request.operations)
        self.disturbed += [
            Disturbance(item.instance.id, name, request.cause, self.now)
            for item in request.operations[len(request.operations) - lost :]
        ]
        self.recent += [self.now] * lost


def _rank(world: World, item: Operation) -> int:
    if item.harms:
        return HARM
    return BACK if _goes_back(world, item.instance.service) else RANKS[item.cause]


def _goes_back(world: World, service: str) -> bool:
    rollout = world.rollout_of(service)
    return rollout is not None and rollout.phase is Phase.ROLLING_BACK


def _is_handing_over(world: World, request: Request) -> bool:
    """Whether it is the primary that a switchover takes out of rotation, demoted before."""
    tenure = world.tenures.get(request.service)
    change = tenure.changing if tenure else None
    return change is not None and (change.step, change.out) == (Step.WITHDRAW, request.key)


def _go_together(world: World, service: ServiceState) -> bool:
    """Whether nothing of a service comes back before all of it has gone."""
    rollout = world.rollout_of(service.name)
    return rollout is not None and rollout.strategy == "recreate"


def _still_disturbed(
    world: World, capacity: Mapping[str, Capacity], age: Callable[[Hashable], float]
) -> Iterable[Disturbance]:
    """Those whose service still lacks what was taken: the newest, as many as are missing. What
    took longer than it can take is a failure, not a disturbance: nobody waits for it."""
    left: dict[str, int] = {}
    for item in reversed(world.guard.disturbed):
        service = world.services.get(item.service)
        if service is None or age(("disturbed", item.instance, item.since)) > _patience(service):
            continue
        missing = left.setdefault(item.service, capacity[item.service].missing())
        if missing > 0:
            left[item.service] = missing - 1
            yield item


def _patience(service: ServiceState) -> float:
    config = service.config
    return config.stop.drain + config.stop.grace + config.health.startup + SPARE_SECONDS


def _paced(
    world: World, wanted: Sequence[Operation], at_once: int, age: Callable[[Hashable], float]
) -> dict[int, Hold]:
    """The starts that wait because so many start already: services with the fewest left first."""
    if not wanted:
        return {}
    starting = sum(_is_starting(world, identity, age) for identity in world.instances)
    room = max(0, at_once - starting)
    if len(wanted) <= room:
        return {}
    capacity = capacities(world)
    rounds: dict[str, int] = {}
    order: list[tuple[float, int, Operation]] = []
    for place, item in enumerate(wanted):
        found = capacity[item.instance.service]
        mine = rounds[item.instance.service] = rounds.get(item.instance.service, -1) + 1
        order.append(((len(found.serving) + mine) / max(1, found.needed), place, item))
    order.sort(key=lambda entry: entry[:2])
    hold = Hold(f"{at_once} instances start at once at most", "one of them is ready")
    return {id(item): hold for _, _, item in order[room:]}


def _is_starting(world: World, identity: str, age: Callable[[Hashable], float]) -> bool:
    """Whether it is on its way to be ready; one that takes too long keeps nobody from starting."""
    item, seen = world.instances[identity], world.observed.get(identity)
    if item.intent != "run" or item.unstartable or (seen and seen.state != "starting"):
        return False
    service = world.services.get(item.service)
    limit = service.config.health.startup if service else 0.0
    return age(("starting", identity)) <= limit


def _waiting(
    state: GuardState, asked: Sequence[Operation], held: Mapping[int, Hold], now: float
) -> tuple[tuple[Waiting, ...], tuple[Waiting, ...], int]:
    """The queue as it is now, who is new in it, and the last ticket. Starts are one line for each
    service: which of them waits changes at every look."""
    known = {(item.instance, item.service): item for item in state.waiting}
    found: dict[tuple[str, str], Waiting] = {}
    news, tickets = [], state.tickets
    for item in asked:
        hold = held.get(id(item))
        if hold is None:
            continue
        identity = "" if item.verb == "start" else item.instance.id
        key = (identity, item.instance.service)
        before = found.get(key) or known.get(key)
        if before is None:
            tickets += 1
            before = Waiting(
                identity,
                item.instance.service,
                item.cause,
                tickets,
                now,
                item.because,
                hold.because,
                hold.until,
            )
            news.append(before)
        found[key] = replace(before, because=hold.because, until=hold.until)
    return tuple(found.values()), tuple(news), tickets
