"""Nothing is counted twice and nothing is made up, whatever happens to proxies and samples."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from unit.decide.worlds import application, instance, running, slot

from volery.decide.evidence import Marks, Tick, arms, delta, proxy_key, split
from volery.decide.world import World
from volery.model.evidence import Arm, Counters, ProxySample, Sample
from volery.model.ports import Exit, Observation
from volery.model.state import Slot, Track

WEB = "web~a"


# --- a small Envoy and what may happen to it ------------------------------------------------------


@dataclass
class Machine:
    """Proxies that count, and a watcher that samples; `really` is what was counted in all."""

    now: float = 100.0
    pids: int = 0
    alive: dict[str, Counters] = field(default_factory=dict)
    seen: dict[str, ProxySample] = field(default_factory=dict)
    really: int = 0
    number: int = 0
    faults: bool = False

    def start(self) -> None:
        self.now += 1
        self.pids += 1
        self.alive[proxy_key(self.pids, self.now)] = Counters()

    def serve(self, count: int) -> None:
        for key in sorted(self.alive)[-1:]:
            old = self.alive[key]
            latency = Counter(old.latency)
            latency[count % 3] += count
            self.alive[key] = Counters(old.requests + count, old.failures + count // 2, latency)
            self.really += count

    def kill(self) -> None:
        """What it had counted since the last sample is lost."""
        for key in sorted(self.alive)[:1]:
            del self.alive[key]
            self.faults = True

    def jump(self) -> None:
        """Counters begin anew under the same name, though they must not."""
        for key in sorted(self.alive)[-1:]:
            self.alive[key] = Counters()
            self.faults = True

    def sample(self, silent: bool) -> Sample:
        """If the newest proxy is silent, what it said last is all that is known."""
        self.now += 1
        self.number += 1
        mute = sorted(self.alive)[-1:] if silent else []
        self.faults |= bool(mute)
        fresh = {k: ProxySample({WEB: v}) for k, v in self.alive.items() if k not in mute}
        known = {key: self.seen[key] for key in mute if key in self.seen}
        self.seen = known | fresh
        return Sample(self.number, self.now, self.seen)


steps = st.lists(
    st.one_of(
        st.sampled_from([("start",), ("kill",), ("jump",), ("sample", False), ("sample", True)]),
        st.tuples(st.just("serve"), st.integers(1, 50)),
    ),
    max_size=60,
)


def played(history: list[tuple[Any, ...]]) -> tuple[Machine, Counters]:
    """All that is counted tick by tick, from a first sample to a last one."""
    machine = Machine()
    machine.start()
    before, total = machine.sample(False), ProxySample()
    deltas = []
    for name, *arguments in [*history, ("sample", False)]:
        found = getattr(machine, name)(*arguments)
        if name == "sample":
            deltas.append(delta(before, found))
            before = found
    for one in deltas:
        counted = one.groups.get(WEB, Counters())
        assert counted.requests >= 0 <= counted.failures
        assert all(count > 0 for count in counted.latency.values())
        old = total.groups.get(WEB, Counters())
        latency = Counter(old.latency)
        latency.update(counted.latency)
        total = ProxySample(
            {
                WEB: Counters(
                    old.requests + counted.requests, old.failures + counted.failures, latency
                )
            }
        )
    return machine, total.groups.get(WEB, Counters())


@given(steps)
def test_never_more_than_was_counted(history: list[tuple[Any, ...]]) -> None:
    machine, total = played(history)
    assert total.requests <= machine.really
    assert sum(total.latency.values()) <= machine.really
    assert total.failures <= total.requests or machine.faults


@given(steps)
def test_exact_without_faults(history: list[tuple[Any, ...]]) -> None:
    """Also when proxies come, for instance to replace another."""
    calm = [step for step in history if step[0] in ("start", "serve") or step == ("sample", False)]
    machine, total = played(calm)
    assert not machine.faults
    assert total.requests == sum(total.latency.values()) == machine.really


# --- single cases ---------------------------------------------------------------------------------


def sample(number: int, at: float, **proxies: Counters) -> Sample:
    return Sample(number, at, {k: ProxySample({WEB: v}) for k, v in proxies.items()})


OLD = proxy_key(7, 50.0)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({OLD: Counters(5, 1)}, {OLD: Counters(8, 3)}, (3, 2)),
        ({OLD: Counters(5, 1)}, {OLD: Counters(2, 1)}, (0, 0)),
        ({OLD: Counters(5, 1)}, {}, (0, 0)),
        ({OLD: Counters(5)}, {OLD: Counters(5), proxy_key(8, 101.0): Counters(4)}, (4, 0)),
        ({OLD: Counters(5)}, {OLD: Counters(5), proxy_key(8, 99.0): Counters(4)}, (0, 0)),
        ({OLD: Counters(5)}, {proxy_key(8, 99.99): Counters(4)}, (4, 0)),
        ({OLD: Counters(5)}, {OLD: Counters(5), "no time": Counters(4)}, (0, 0)),
    ],
    ids=[
        "grows",
        "went back",
        "ended",
        "began since",
        "was there unseen",
        "began within the same tick",
        "unknown start",
    ],
)
def test_delta(
    before: dict[str, Counters], after: dict[str, Counters], expected: tuple[int, int]
) -> None:
    found = delta(sample(1, 100.0, **before), sample(2, 102.0, **after)).groups
    assert found == ({WEB: Counters(*expected)} if expected != (0, 0) else {})


def test_nothing_is_known_before_the_first_sample() -> None:
    assert delta(Sample(), sample(1, 100.0, **{OLD: Counters(5)})) == ProxySample()


def test_a_sample_is_split_by_service() -> None:
    groups = {"web~a": Counters(1), "web~b": Counters(2), "web-api~a": Counters(3)}
    instances = {"web-11aa-1": Counters(1), "web-api-11aa-1": Counters(2)}
    ours = ("gateway~web", "api~a~web", "api~a~web+replicas")
    edges = {name: Counters(1) for name in (*ours, "web~a~api")}
    served = {"web~a~1": Counters(1), "web-api~a~1": Counters(2)}
    whole = ProxySample(groups, instances, edges, groups, served)
    found = split(Sample(3, 1.0, {OLD: whole}), ["web", "away"])
    (seen,) = found["web"].proxies.values()
    assert (found["web"].number, found["web"].at) == (3, 1.0)
    assert set(seen.groups) == set(seen.rough) == {"web~a", "web~b"}
    assert set(seen.instances) == {"web-11aa-1"}
    assert set(seen.edges) == set(ours)
    assert set(seen.served) == {"web~a~1"}
    assert found["away"].proxies == {OLD: ProxySample()}, "its proxy is known all the same"


def test_services_keep_their_order() -> None:
    """What is decided first must not depend on how a process happens to hash names."""
    names = [f"web-{number}" for number in range(50)]
    assert list(split(Sample(), names)) == names


def test_whose_instance_it_is_with_state_and_without() -> None:
    instances = {name: Counters(1) for name in ("orders-11aa-1", "orders-db-0", "orders-db-1")}
    whole = ProxySample(instances=instances)
    found = split(Sample(3, 1.0, {OLD: whole}), ["orders", "orders-db"])
    assert set(found["orders"].proxies[OLD].instances) == {"orders-11aa-1"}
    assert set(found["orders-db"].proxies[OLD].instances) == {"orders-db-0", "orders-db-1"}


# --- arms -----------------------------------------------------------------------------------------

ONE, TWO = "web-1aa-1", "web-2bb-1"
LIMITS = {"resources": {"cpu": 0.5, "memory": "100Mi"}}
MIB = 2**20


def world(*, intent: Any = "run", group: Slot | None = None, **observed: Any) -> World:
    """A service with one instance in each of two slots; `group` and `observed` are of b."""
    base = running(application(web=LIMITS))
    base.services["web"].slots["b"] = group or slot("web@2bb", weight=0)
    two = replace(instance(TWO, "web", "web@2bb", "b"), intent=intent)
    instances = {ONE: instance(ONE, "web", "web@1aa"), TWO: two}
    known: dict[str, Any] = {"id": TWO, "state": "ready", "pid": 2} | observed
    seen = {ONE: Observation(ONE, "ready", pid=1), TWO: Observation(**known)}
    return replace(base, instances=instances, observed=seen)


def after(*worlds: World, seconds: float = 1.0) -> tuple[Tick, Marks]:
    """The last tick of several."""
    marks, found = None, Tick()
    for number, given_world in enumerate(worlds):
        found, marks = arms(
            marks, given_world, given_world.services["web"], Sample(), number * seconds
        )
    assert marks is not None
    return found, marks


def test_an_instance_lives_and_is_counted() -> None:
    found, _ = after(world(), world(), seconds=2.0)
    assert found.seconds == 2.0
    assert found.slots == {"a": Arm(instance_seconds=2.0), "b": Arm(instance_seconds=2.0)}
    assert found.instances[TWO] == Arm(instance_seconds=2.0)


def test_the_first_look_only_marks() -> None:
    found, _ = after(world(restarts=3))
    assert found.slots == {"a": Arm(), "b": Arm()}


WAITS = {"state": "starting", "pid": None, "exit": Exit(1)}
"""Its process has ended, and its shim waits before it starts another one."""


@pytest.mark.parametrize(
    ("then", "now", "exits"),
    [
        ({}, {"restarts": 2}, 2),
        ({}, {"restarts": 1} | WAITS, 1),
        ({"restarts": 1} | WAITS, {"restarts": 1, "exit": Exit(1)}, 0),
        ({"restarts": 1, "exit": Exit(1)}, {"restarts": 1, "exit": Exit(1)}, 0),
        ({}, {"state": "exited", "pid": None, "exit": Exit(1)}, 1),
        ({}, {"state": "stopping", "pid": None, "exit": Exit(0)}, 0),
        ({}, {"state": "exited", "pid": None, "exit": Exit(0), "intent": "stop"}, 0),
    ],
    ids=["restarted", "waits", "waited, runs", "nothing new", "ended", "stopping", "was stopped"],
)
def test_exits(then: dict[str, Any], now: dict[str, Any], exits: int) -> None:
    found, _ = after(world(**then), world(**now))
    assert found.slots["b"].exits == exits
    assert found.slots["a"].exits == 0


@pytest.mark.parametrize(
    ("then", "now", "again"), [(0, 1, 0), (0, 2, 2), (1, 2, 2), (2, 3, 1), (3, 3, 0)]
)
def test_an_instance_that_ends_again(then: int, now: int, again: int) -> None:
    """With its second end the first one counts as well."""
    found, _ = after(world(restarts=then), world(restarts=now))
    assert found.slots["b"].again == found.instances[TWO].again == again


def test_an_instance_that_began_since_and_ended_counts() -> None:
    before = world()
    before = replace(before, instances={ONE: before.instances[ONE]})
    found, _ = after(before, world(state="exited", pid=None, exit=Exit(1)))
    assert found.slots["b"] == Arm(exits=1)


@pytest.mark.parametrize(
    ("then", "now", "saturated"),
    [
        ({}, {"memory": 90 * MIB}, 1.0),
        ({}, {"memory": 80 * MIB}, 0.0),
        ({"cpu_seconds": 1.0, "measured_at": 5.0}, {"cpu_seconds": 1.5, "measured_at": 6.0}, 1.0),
        ({"cpu_seconds": 1.0, "measured_at": 5.0}, {"cpu_seconds": 1.4, "measured_at": 6.0}, 0.0),
        ({"cpu_seconds": 9.0, "measured_at": 5.0}, {"cpu_seconds": 1.4, "measured_at": 6.0}, 0.0),
        ({}, {"cpu_seconds": 9.0, "measured_at": 6.0}, 0.0),
        ({}, {"memory": 99 * MIB, "pid": None, "state": "starting"}, 0.0),
    ],
    ids=["memory", "enough memory", "cpu", "enough cpu", "began anew", "unknown before", "is dead"],
)
def test_saturation(then: dict[str, Any], now: dict[str, Any], saturated: float) -> None:
    found, _ = after(world(**then), world(**now))
    assert found.slots["b"].saturated_seconds == saturated


@pytest.mark.parametrize(
    ("now", "unready"),
    [
        ({"state": "unready"}, 1.0),
        ({"suspect": "timed out"}, 1.0),
        ({}, 0.0),
        ({"state": "starting", "suspect": "refused"}, 0.0),
        ({"state": "stopping"}, 0.0),
        ({"state": "unready", "pid": None}, 0.0),
    ],
    ids=["unready", "one probe", "ready", "starts", "stops", "is dead"],
)
def test_time_after_a_probe_that_failed(now: dict[str, Any], unready: float) -> None:
    found, _ = after(world(), world(**now))
    assert found.slots["b"].unready_seconds == unready


def test_it_stays_saturated_until_it_is_measured_again() -> None:
    first = world(cpu_seconds=1.0, measured_at=5.0)
    full = world(cpu_seconds=3.5, measured_at=10.0)
    found, _ = after(first, full, full)
    assert found.slots["b"].saturated_seconds == 1.0


def counting(number: int, at: float, requests: int, failures: int) -> Sample:
    counters = Counters(requests, failures, {3: requests})
    instances = {TWO: Counters(requests, failures)}
    return Sample(number, at, {OLD: ProxySample({"web~b": counters, "api~a": counters}, instances)})


def test_traffic_goes_to_its_group_and_instance() -> None:
    given_world = world()
    service = given_world.services["web"]
    _, marks = arms(None, given_world, service, counting(1, 100.0, 10, 1), 100.0)
    found, marks = arms(marks, given_world, service, counting(2, 101.0, 15, 3), 101.0)
    assert found.slots["a"] == Arm(instance_seconds=1.0)
    assert found.slots["b"] == Arm(5, 2, {3: 5}, instance_seconds=1.0)
    assert found.instances[TWO] == Arm(5, 2, instance_seconds=1.0)
    for silence in (counting(2, 101.0, 15, 3), Sample()):
        found, marks = arms(marks, given_world, service, silence, 102.0)
        assert found.slots["b"].requests == 0
    found, _ = arms(marks, given_world, service, counting(3, 103.0, 16, 3), 103.0)
    assert found.slots["b"].requests == 1


def test_a_failure_waits_for_its_request() -> None:
    given_world = world()
    service = given_world.services["web"]
    _, marks = arms(None, given_world, service, counting(1, 100.0, 10, 0), 100.0)
    found, marks = arms(marks, given_world, service, counting(2, 101.0, 11, 3), 101.0)
    assert (found.slots["b"].requests, found.slots["b"].failures) == (1, 1)
    found, marks = arms(marks, given_world, service, counting(3, 102.0, 16, 3), 102.0)
    assert (found.slots["b"].requests, found.slots["b"].failures) == (5, 2)
    assert not marks.owed


@pytest.mark.parametrize(
    ("then", "expected"),
    [("web@2bb", 40), ("web@3cc", 0), (None, 0)],
    ids=["the same release", "another one", "none meanwhile"],
)
def test_no_release_owes_the_failures_of_the_one_before_it(then: str | None, expected: int) -> None:
    """When instances end they cut streams whose requests were counted long ago."""
    given_world = world()
    service = given_world.services["web"]
    _, marks = arms(None, given_world, service, counting(1, 100.0, 10, 0), 100.0)
    _, marks = arms(marks, given_world, service, counting(2, 101.0, 10, 40), 101.0)
    assert marks.owed == {"b": 40}
    service.slots["b"] = slot(then or "web@2bb", count=0 if then is None else 1)
    _, marks = arms(marks, given_world, service, counting(3, 102.0, 10, 40), 102.0)
    assert marks.owed == ({"b": 40} if expected else {})
    service.slots["b"] = slot(then or "web@2bb")
    found, _ = arms(marks, given_world, service, counting(4, 103.0, 60, 40), 103.0)
    assert (found.slots["b"].requests, found.slots["b"].failures) == (50, expected)


def test_streams_that_are_cut_as_a_release_leaves_are_not_the_next_one_s() -> None:
    given_world = world()
    service = given_world.services["web"]
    _, marks = arms(None, given_world, service, counting(1, 100.0, 10, 0), 100.0)
    service.slots["b"] = slot("web@3cc")
    _, marks = arms(marks, given_world, service, counting(2, 101.0, 10, 40), 101.0)
    found, _ = arms(marks, given_world, service, counting(3, 102.0, 60, 41), 102.0)
    assert (found.slots["b"].requests, found.slots["b"].failures) == (50, 1)


@pytest.mark.parametrize(
    ("group", "only_copies"),
    [(Slot("web@2bb", Track.CANARY, 1, 0, mirror=10), True), (slot("web@2bb", weight=10), False)],
)
def test_where_a_group_gets_only_copies_rough_latencies_are_compared(
    group: Slot, only_copies: bool
) -> None:
    """Else what an answer took as a whole says nothing: it may be known before the rest is."""
    fine = {"web~a": Counters(latency={1: 3})}
    rough = {"web~a": Counters(latency={5: 3}), "web~b": Counters(latency={6: 3})}
    given_world = world(group=group)
    service = given_world.services["web"]
    marks = Marks(100.0, Sample(1, 100.0, {OLD: ProxySample()}))
    sample = Sample(2, 101.0, {OLD: ProxySample(fine, rough=rough)})
    found, _ = arms(marks, given_world, service, sample, 101.0)
    expected = rough if only_copies else fine
    assert {f"web~{name}": arm.latency for name, arm in found.slots.items() if arm.latency} == {
        name: counters.latency for name, counters in expected.items()
    }


def test_marks_of_before_releases_were_noted_owe_nothing() -> None:
    given_world = world()
    kind = TypeAdapter(Marks)
    old = kind.dump_python(Marks(100.0, counting(1, 100.0, 10, 0), owed={"b": 40}), mode="json")
    del old["releases"]
    marks = kind.validate_python(old)
    service = given_world.services["web"]
    found, _ = arms(marks, given_world, service, counting(2, 101.0, 60, 1), 101.0)
    assert (found.slots["b"].requests, found.slots["b"].failures) == (50, 1)


def test_marks_survive_the_store() -> None:
    _, marks = arms(None, world(), world().services["web"], counting(1, 100.0, 10, 1), 100.0)
    kind = TypeAdapter(Marks)
    text = json.dumps(kind.dump_python(marks, mode="json"))
    assert kind.validate_json(text) == marks
