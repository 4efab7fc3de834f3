"""Samples of counters -> what each group did since the last look.

Never counts anything twice and never less than nothing, whatever happens to proxies: a proxy that
is known from before adds what it counted since; one that began since then adds everything; one that
was not seen before although it was there adds nothing yet; one that ended adds nothing more. A
counter that went back adds nothing. What is lost that way is missing data, which moves no evidence.

Terms: *marks* are what has to be remembered from one look to the next; a *tick* is what happened
between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter

from volery.decide.by_role import owner_of
from volery.decide.world import World, number_of
from volery.model.application import Resources
from volery.model.evidence import Arm, Counters, Latency, ProxySample, Sample
from volery.model.ports import Observation
from volery.model.state import Instance, ServiceState, SlotName

FULL_MEMORY, FULL_CPU = 0.90, 0.95
"""At which share of its limit an instance counts as saturated."""
BEGINNING_SECONDS = 0.02
"""A proxy began up to so much later than its name says, which is cut to the kernel's ticks."""


# --- counters -------------------------------------------------------------------------------------


def proxy_key(pid: int, started: float) -> str:
    """What a proxy is called in a sample; `started` in monotonic seconds, known to 10 ms."""
    return f"{pid}@{started:.2f}"


def began_after(key: str, sample: Sample) -> bool:
    """Whether a proxy began after a sample was taken, so that all it counted came after it. When
    one began is not known exactly, but it serves nobody as soon as that."""
    try:
        started = float(key.rpartition("@")[2])
    except ValueError:
        return False
    return sample.number > 0 and started + BEGINNING_SECONDS > sample.at


def delta(before: Sample, after: Sample) -> ProxySample:
    """What all proxies together counted between two samples; nothing if the first is of nothing."""
    return ProxySample(*(counted(before, after, kind) for kind in _KINDS))


Kind = Callable[[ProxySample], Mapping[str, Counters]]
_KINDS: tuple[Kind, ...] = tuple(attrgetter(found.name) for found in fields(ProxySample))


def counted(before: Sample, after: Sample, kind: Kind) -> dict[str, Counters]:
    """The same of one kind of counters, such as those of edges."""
    total: dict[str, Counters] = {}
    if before.number == 0:
        return total
    for key, proxy in after.proxies.items():
        known = before.proxies.get(key)
        if known is None and not began_after(key, before):
            continue
        then = kind(known) if known else {}
        for name, now in kind(proxy).items():
            grown = _growth(then.get(name, _NONE), now)
            if grown is not None:
                total[name] = _sum(total[name], grown) if name in total else grown
    return total


def split(sample: Sample, services: Iterable[str]) -> dict[str, Sample]:
    """What concerns each of these services: its groups, instances, and the edges that lead to
    it."""
    names = dict.fromkeys(services)
    parts = {
        key: (
            _owned(seen.groups, service_of_group),
            _owned(seen.instances, lambda instance: _service_of_instance(instance, names)),
            _owned(seen.edges, service_of_edge),
            _owned(seen.rough, service_of_group),
            _owned(seen.served, service_of_served),
        )
        for key, seen in sample.proxies.items()
    }
    return {
        name: replace(
            sample,
            proxies={
                key: ProxySample(*(kind.get(name, {}) for kind in kinds))
                for key, kinds in parts.items()
            },
        )
        for name in names
    }


def _owned(
    counters: Mapping[str, Counters], owner: Callable[[str], str]
) -> dict[str, dict[str, Counters]]:
    """Counters by service."""
    found: dict[str, dict[str, Counters]] = {}
    for name, seen in counters.items():
        found.setdefault(owner(name), {})[name] = seen
    return found


def service_of_group(group: str) -> str:
    """Whose group it is: `catalog` of `catalog~a`."""
    return group.rpartition("~")[0]


def service_of_edge(edge: str) -> str:
    """Where an edge leads: to `catalog` for `storefront~a~catalog`, also to its replicas."""
    return owner_of(edge.rpartition("~")[2])


def _service_of_instance(instance: str, services: Collection[str]) -> str:
    """Whose instance it is: `orders-db` of `orders-db-0`, `catalog` of `catalog-3f2a91c0-2`."""
    place = instance.rpartition("-")[0]
    return place if place in services else place.rpartition("-")[0]


def service_of_served(name: str) -> str:
    """Whose instance it is: `catalog` of `catalog~a~2`."""
    return service_of_group(service_of_group(name))


_NONE = Counters()


def _sum(one: Counters, two: Counters) -> Counters:
    latency = dict(one.latency)
    for index, count in two.latency.items():
        latency[index] = latency.get(index, 0) + count
    return Counters(one.requests + two.requests, one.failures + two.failures, latency)


def _growth(then: Counters, now: Counters) -> Counters | None:
    """What came since; None if nothing did."""
    if now == then:
        return None
    before = then.latency
    grown = Counters(
        max(0, now.requests - then.requests),
        max(0, now.failures - then.failures),
        {
            index: count - before.get(index, 0)
            for index, count in now.latency.items()
            if count > before.get(index, 0)
        },
    )
    return grown if grown != _NONE else None


# --- arms -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InstanceMark:
    """What was known of an instance: how often its process had ended, its processor time and when
    that was measured, and whether it was at its limit then."""

    ended: int = 0
    cpu_seconds: float | None = None
    measured_at: float | None = None
    full_cpu: bool = False


@dataclass(frozen=True)
class Marks:
    """What one look leaves to the next: plain values, small enough to be stored at every tick.

    `owed` are failures of a group whose requests were counted earlier, or are not counted yet; a
    connection may be reset long after it was made. They are those of the release that is in the
    slot, see `releases`: another one owes nothing of it.
    """

    at: float
    sample: Sample = field(default_factory=Sample)
    instances: Mapping[str, InstanceMark] = field(default_factory=dict)
    owed: Mapping[SlotName, int] = field(default_factory=dict)
    releases: Mapping[SlotName, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tick:
    """What a service did between two looks, group by group and instance by instance. `edges` is
    what its callers saw; `served` how fast each instance answered, counted try by try."""

    seconds: float = 0.0
    slots: Mapping[SlotName, Arm] = field(default_factory=dict)
    instances: Mapping[str, Arm] = field(default_factory=dict)
    edges: Mapping[str, Counters] = field(default_factory=dict)
    served: Mapping[str, Latency] = field(default_factory=dict)


def arms(
    marks: Marks | None, world: World, service: ServiceState, sample: Sample, now: float
) -> tuple[Tick, Marks]:
    """What happened since the marks, and the marks for the next time.

    Args:
        marks: of the last look; None for the first one, from which on is counted.
        sample: the service's part of the newest one (see `split`); the one of the last look again,
            or an empty one, is no news.
        now: monotonic seconds.
    """
    before = marks or Marks(now)
    sample = sample if sample.number else before.sample
    came = delta(before.sample, sample)
    seconds = max(0.0, now - before.at)
    found: dict[str, Arm] = {}
    seen: dict[str, InstanceMark] = {}
    there = world.instances_of(service.name)
    for instance in there:
        limits = world.spec(service, instance.slot).resources
        observed = world.observed.get(instance.id)
        old = before.instances.get(instance.id, None if marks is None else InstanceMark())
        seen[instance.id] = new = _mark(old, instance, observed, limits)
        lasted = seconds if instance.id in before.instances else 0.0
        lived = lasted if observed and observed.pid is not None else 0.0
        traffic = came.instances.get(instance.id, _NONE)
        ended = (old or new).ended
        found[instance.id] = Arm(
            requests=traffic.requests,
            failures=traffic.failures,
            instance_seconds=lived,
            exits=new.ended - ended,
            saturated_seconds=lived if observed and _is_full(new, observed, limits) else 0.0,
            unready_seconds=lived if observed and _fails_probes(observed) else 0.0,
            again=_again(new.ended) - _again(ended),
        )
    releases = {slot: kept.release for slot, kept in service.slots.items() if kept and kept.count}
    stayed = {slot for slot, release in releases.items() if before.releases.get(slot) == release}
    owed = {slot: before.owed.get(slot, 0) for slot in stayed}
    slots, still = _slots(there, found, came, owed, service)
    served = {item.id: came.served.get(served_key(item), _NONE).latency for item in there}
    marks = Marks(now, sample, seen, still, releases)
    return Tick(seconds, slots, found, came.edges, served), marks


def served_key(item: Instance) -> str:
    """How `ProxySample.served` names an instance: its number is free again when it is gone, so that
    proxies need not count for ever."""
    return f"{item.service}~{item.slot}~{number_of(item.id)}"


def _slots(
    instances: Iterable[Instance],
    found: Mapping[str, Arm],
    came: ProxySample,
    owed: Mapping[SlotName, int],
    service: ServiceState,
) -> tuple[dict[SlotName, Arm], dict[SlotName, int]]:
    """Group by group, and what is still owed. A slot that is not in `owed` has just got another
    release, or none: what failed without a request was not its own."""
    slots: dict[SlotName, Arm] = {}
    still: dict[SlotName, int] = {}
    everyone = list(instances)
    latencies = _latencies(came, service)
    for slot in service.slots:
        traffic = came.groups.get(f"{service.name}~{slot}", _NONE)
        failures = traffic.failures + owed.get(slot, 0)
        now = min(failures, traffic.requests)
        if slot in owed and failures > now:
            still[slot] = failures - now
        own = [found[instance.id] for instance in everyone if instance.slot == slot]
        slots[slot] = Arm(
            requests=traffic.requests,
            failures=now,
            latency=latencies.get(f"{service.name}~{slot}", _NONE).latency,
            instance_seconds=sum(arm.instance_seconds for arm in own),
            exits=sum(arm.exits for arm in own),
            saturated_seconds=sum(arm.saturated_seconds for arm in own),
            unready_seconds=sum(arm.unready_seconds for arm in own),
            again=sum(arm.again for arm in own),
        )
    return slots, still


def _latencies(came: ProxySample, service: ServiceState) -> Mapping[str, Counters]:
    """While a group gets nothing but copies, rough latencies of all groups: like is compared with
    like."""
    copies = any(kept and kept.mirror and not kept.weight for kept in service.slots.values())
    return came.rough if copies else came.groups


def _mark(
    old: InstanceMark | None, instance: Instance, seen: Observation | None, limits: Resources
) -> InstanceMark:
    old = old or InstanceMark()
    if seen is None:
        return old
    ended = old.ended if _asked_to_end(instance, seen) else max(old.ended, _ended(seen))
    if seen.measured_at is None or seen.measured_at == old.measured_at:
        return old if ended == old.ended else replace(old, ended=ended)
    return InstanceMark(ended, seen.cpu_seconds, seen.measured_at, _full_cpu(old, seen, limits))


def _asked_to_end(instance: Instance, seen: Observation) -> bool:
    return instance.intent == "stop" or seen.state == "stopping"


def _ended(seen: Observation) -> int:
    """How often its process has ended: for each restart, which is counted at the end before it, and
    for the end after which there was none."""
    return seen.restarts + (seen.exit is not None and seen.state == "exited")


def _again(ended: int) -> int:
    """How many of an instance's ends say that it ends again and again: of one alone, none."""
    return ended if ended > 1 else 0


def _full_cpu(old: InstanceMark, seen: Observation, limits: Resources) -> bool:
    if limits.cpu is None or seen.cpu_seconds is None or seen.measured_at is None:
        return False
    if old.cpu_seconds is None or old.measured_at is None or seen.measured_at <= old.measured_at:
        return False
    used = (seen.cpu_seconds - old.cpu_seconds) / (seen.measured_at - old.measured_at)
    return used >= FULL_CPU * limits.cpu


def _is_full(new: InstanceMark, seen: Observation, limits: Resources) -> bool:
    """Whether it is at a limit."""
    full_memory = (
        limits.memory is not None
        and seen.memory is not None
        and seen.memory >= FULL_MEMORY * limits.memory
    )
    return full_memory or new.full_cpu


def _fails_probes(seen: Observation) -> bool:
    """Whether its last probe failed, once it was ready."""
    return seen.state == "unready" or (seen.state == "ready" and bool(seen.suspect))
