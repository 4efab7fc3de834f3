"""Samples of counters -> what each group did since the last look.

Never counts anything twice and never less than nothing, whatever happens to proxies: a proxy that
is known from before adds what it counted since; one that began since then adds everything; one that
was not seen before although it was there adds nothing yet; one that ended adds nothing more. A
counter that went back adds nothing. What is lost that way is missing data, which moves no evidence.

Terms: *marks* are what has to be remembered from one look to the next; a *tick* is what happened
between the two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from volery.decide.world import World
from volery.model.application import Resources
from volery.model.evidence import Arm, Counters, ProxySample, Sample
from volery.model.ports import Observation
from volery.model.state import Instance, ServiceState, SlotName

FULL_MEMORY, FULL_CPU = 0.90, 0.95
"""At which share of its limit an instance counts as saturated."""


# --- counters -------------------------------------------------------------------------------------


def proxy_key(pid: int, started: float) -> str:
    """What a proxy is called in a sample; `started` in monotonic seconds, known to 10 ms."""
    return f"{pid}@{started:.2f}"


def began_after(key: str, sample: Sample) -> bool:
    """Whether a proxy began after a sample was taken, so that all it counted came after it."""
    try:
        started = float(key.rpartition("@")[2])
    except ValueError:
        return False
    return sample.number > 0 and started > sample.at


def delta(before: Sample, after: Sample) -> ProxySample:
    """What all proxies together counted between two samples; nothing if the first is of nothing."""
    total = ProxySample()
    if before.number == 0:
        return total
    for key, now in after.proxies.items():
        then = before.proxies.get(key)
        if then is None and began_after(key, before):
            then = ProxySample()
        if then is not None:
            total = _each(_sum, total, _each(_growth, then, now))
    return total


def for_service(sample: Sample, service: str) -> Sample:
    """Only what concerns one service: its groups, instances, and the edges that lead to it."""
    number = re.compile(rf"{re.escape(service)}-[^-]+-\d+")
    return replace(
        sample,
        proxies={
            key: ProxySample(
                {k: v for k, v in seen.groups.items() if service_of_group(k) == service},
                {k: v for k, v in seen.instances.items() if number.fullmatch(k)},
                {k: v for k, v in seen.edges.items() if service_of_edge(k) == service},
                {k: v for k, v in seen.rough.items() if service_of_group(k) == service},
            )
            for key, seen in sample.proxies.items()
        },
    )


def service_of_group(group: str) -> str:
    """Whose group it is: `catalog` of `catalog~a`."""
    return group.rpartition("~")[0]


def service_of_edge(edge: str) -> str:
    """Where an edge leads: to `catalog` for `storefront~a~catalog`."""
    return edge.rpartition("~")[2]


Change = Callable[[Counters, Counters], Counters]
_NONE = Counters()


def _each(change: Change, one: ProxySample, two: ProxySample) -> ProxySample:
    def merged(a: Mapping[str, Counters], b: Mapping[str, Counters]) -> dict[str, Counters]:
        found = {key: change(a.get(key, _NONE), b.get(key, _NONE)) for key in sorted({*a, *b})}
        return {key: counters for key, counters in found.items() if counters != _NONE}

    return ProxySample(
        merged(one.groups, two.groups),
        merged(one.instances, two.instances),
        merged(one.edges, two.edges),
        merged(one.rough, two.rough),
    )


def _sum(one: Counters, two: Counters) -> Counters:
    latency = Counter(one.latency)
    latency.update(two.latency)
    return Counters(one.requests + two.requests, one.failures + two.failures, dict(latency))


def _growth(then: Counters, now: Counters) -> Counters:
    return Counters(
        max(0, now.requests - then.requests),
        max(0, now.failures - then.failures),
        {
            index: count - then.latency.get(index, 0)
            for index, count in now.latency.items()
            if count > then.latency.get(index, 0)
        },
    )


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
    connection may be reset long after it was made.
    """

    at: float
    sample: Sample = field(default_factory=Sample)
    instances: Mapping[str, InstanceMark] = field(default_factory=dict)
    owed: Mapping[SlotName, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tick:
    """What a service did between two looks, group by group and instance by instance. `edges` is
    what its callers saw."""

    seconds: float = 0.0
    slots: Mapping[SlotName, Arm] = field(default_factory=dict)
    instances: Mapping[str, Arm] = field(default_factory=dict)
    edges: Mapping[str, Counters] = field(default_factory=dict)


def arms(
    marks: Marks | None, world: World, service: ServiceState, sample: Sample, now: float
) -> tuple[Tick, Marks]:
    """What happened since the marks, and the marks for the next time.

    Args:
        marks: of the last look; None for the first one, from which on is counted.
        sample: the newest one; the one of the last look again, or an empty one, is no news.
        now: monotonic seconds.
    """
    before = marks or Marks(now)
    sample = for_service(sample, service.name) if sample.number else before.sample
    counted = delta(before.sample, sample)
    seconds = max(0.0, now - before.at)
    found: dict[str, Arm] = {}
    seen: dict[str, InstanceMark] = {}
    for instance in world.instances_of(service.name):
        limits = world.spec(service, instance.slot).resources
        observed = world.observed.get(instance.id)
        old = before.instances.get(instance.id, None if marks is None else InstanceMark())
        seen[instance.id] = new = _mark(old, instance, observed, limits)
        known = instance.id in before.instances
        arm = _lived(old or new, new, observed, limits, seconds if known else 0.0)
        traffic = counted.instances.get(instance.id, _NONE)
        found[instance.id] = replace(arm, requests=traffic.requests, failures=traffic.failures)
    slots, owed = _slots(world.instances_of(service.name), found, counted, before.owed, service)
    return Tick(seconds, slots, found, counted.edges), Marks(now, sample, seen, owed)


def _slots(
    instances: Iterable[Instance],
    found: Mapping[str, Arm],
    counted: ProxySample,
    owed: Mapping[SlotName, int],
    service: ServiceState,
) -> tuple[dict[SlotName, Arm], dict[SlotName, int]]:
    slots: dict[SlotName, Arm] = {}
    still: dict[SlotName, int] = {}
    everyone = list(instances)
    latencies = _latencies(counted)
    for slot in service.slots:
        traffic = counted.groups.get(f"{service.name}~{slot}", _NONE)
        failures = traffic.failures + owed.get(slot, 0)
        now = min(failures, traffic.requests)
        if failures > now:
            still[slot] = failures - now
        own = [found[instance.id] for instance in everyone if instance.slot == slot]
        slots[slot] = Arm(
            requests=traffic.requests,
            failures=now,
            latency=latencies.get(f"{service.name}~{slot}", _NONE).latency,
            instance_seconds=sum(arm.instance_seconds for arm in own),
            exits=sum(arm.exits for arm in own),
            saturated_seconds=sum(arm.saturated_seconds for arm in own),
        )
    return slots, still


def _latencies(counted: ProxySample) -> Mapping[str, Counters]:
    """Where a group got nothing but copies, rough latencies of all groups: like is compared with
    like."""
    only_copies = any(
        found.latency and not counted.groups.get(group, _NONE).latency
        for group, found in counted.rough.items()
    )
    return counted.rough if only_copies else counted.groups


def _mark(
    old: InstanceMark | None, instance: Instance, seen: Observation | None, limits: Resources
) -> InstanceMark:
    old = old or InstanceMark()
    if seen is None:
        return old
    ended = old.ended if _asked_to_end(instance, seen) else max(old.ended, _ended(seen))
    if seen.measured_at is None or seen.measured_at == old.measured_at:
        return replace(old, ended=ended)
    return InstanceMark(ended, seen.cpu_seconds, seen.measured_at, _full_cpu(old, seen, limits))


def _asked_to_end(instance: Instance, seen: Observation) -> bool:
    return instance.intent == "stop" or seen.state == "stopping"


def _ended(seen: Observation) -> int:
    """How often its process has ended: before each restart, and now if none runs."""
    return seen.restarts + (seen.exit is not None and seen.pid is None)


def _full_cpu(old: InstanceMark, seen: Observation, limits: Resources) -> bool:
    if limits.cpu is None or seen.cpu_seconds is None or seen.measured_at is None:
        return False
    if old.cpu_seconds is None or old.measured_at is None or seen.measured_at <= old.measured_at:
        return False
    used = (seen.cpu_seconds - old.cpu_seconds) / (seen.measured_at - old.measured_at)
    return used >= FULL_CPU * limits.cpu


def _lived(
    old: InstanceMark,
    new: InstanceMark,
    seen: Observation | None,
    limits: Resources,
    seconds: float,
) -> Arm:
    exits = new.ended - old.ended
    if seen is None or seen.pid is None:
        return Arm(exits=exits)
    full_memory = (
        limits.memory is not None
        and seen.memory is not None
        and seen.memory >= FULL_MEMORY * limits.memory
    )
    saturated = seconds if full_memory or new.full_cpu else 0.0
    return Arm(instance_seconds=seconds, exits=exits, saturated_seconds=saturated)
