"""The watch over evidence: one look for each new sample, kept with what it counted, never stale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.decide.worlds import canary_world, only

from volery.control.draft import Draft
from volery.control.evidence import FRESH_SECONDS, PAUSED_SECONDS, EvidenceWatch, attended
from volery.decide.asked import metric_key
from volery.decide.comparison import FROZEN_TICKS, Comparison, Past
from volery.decide.explain import decisions
from volery.decide.judge import UNKNOWN, Start, of_release
from volery.decide.world import World
from volery.model.evidence import Arm, Counters, Judgement, ProxySample, Sample
from volery.model.ports import Answer, Change
from volery.model.state import Phase, Slot, SlotName, Track
from volery.store.memory import MemoryStore


@dataclass
class Plane:
    """A watch, its store, and an Envoy that counts 90 old and 10 new requests a second."""

    world: World
    store: MemoryStore = field(default_factory=MemoryStore)
    watch: EvidenceWatch = field(default_factory=EvidenceWatch)
    number: int = 0
    clock: float = 100.0
    counted: dict[str, tuple[int, int]] = field(
        default_factory=lambda: {"catalog~a": (0, 0), "catalog~b": (0, 0)}
    )
    proxy: str = "1@1.00"
    answers: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {
            "service": self.world.services,
            "instance": self.world.instances,
            "release": self.world.releases,
            "rollout": self.world.rollouts,
        }
        changes = [
            Change(kind, key, item)  # type: ignore[arg-type]
            for kind, items in named.items()
            for key, item in items.items()
        ]
        self.store.commit(changes, [])

    def draft(self) -> Draft:
        return Draft(self.store, 1000.0 + self.clock, self.world.observed)

    def second(
        self, failures: int = 0, new: int = 10, *, old: int = 90, seconds: float = 1.0
    ) -> None:
        """Time passes, requests are counted, and the watch looks."""
        self.clock += seconds
        self.number += 1
        for group, requests, failed in (("catalog~a", old, 0), ("catalog~b", new, failures)):
            n, k = self.counted[group]
            self.counted[group] = (n + requests, k + failed)
        self.look()

    def look(self) -> None:
        draft = self.draft()
        self.watch.look(draft, self.sample(), self.answers, self.clock)
        draft.commit()

    def sample(self) -> Sample:
        groups = {g: Counters(n, k, {8: n}) for g, (n, k) in self.counted.items()}
        instances = {"catalog-2-1": groups["catalog~b"]}
        return Sample(self.number, self.clock, {self.proxy: ProxySample(groups, instances)})

    def at(self, **changed: Any) -> None:
        """The rollout is somewhere else now."""
        rollout = replace(only(self.world), **changed)
        self.world = replace(self.world, rollouts={rollout.id: rollout})
        self.store.commit([Change("rollout", rollout.id, rollout)], [])

    def new_control_plane(self) -> None:
        """What was in memory is gone; the Envoy and the store stay."""
        self.watch, self.number = EvidenceWatch(), 0

    @property
    def verdict(self) -> str | None:
        said = self.watch.judged(self.draft(), only(self.world), self.clock)
        return said.verdict if said else None

    @property
    def comparison(self) -> Comparison:
        found = self.store.documents("comparison")["catalog-r2"]
        assert isinstance(found, Comparison)
        return found

    def seen(self) -> tuple[int, int]:
        """Requests of the new and of the old release in all looks that were kept."""
        looks = self.store.looks("catalog-r2")
        return sum(x.canary.requests for x in looks), sum(x.control.requests for x in looks)


def test_the_first_sample_is_where_counting_begins() -> None:
    plane = Plane(canary_world())
    plane.second(new=5000)
    assert plane.store.looks("catalog-r2") == () and plane.verdict is None
    plane.second()
    assert plane.seen() == (10, 90) and plane.verdict == "continue"


def test_the_same_sample_is_no_news() -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    for _ in range(5):
        plane.look()
    assert plane.seen() == (10, 90) and len(plane.store.looks("catalog-r2")) == 1


def test_looks_are_numbered_and_say_where_the_step_was() -> None:
    plane = Plane(canary_world())
    for _ in range(4):
        plane.second()
    looks = plane.store.looks("catalog-r2")
    assert [look.number for look in looks] == [1, 2, 3]
    assert {(look.step, look.weight, look.next_weight) for look in looks} == {(1, 0.1, 0.5)}
    assert [look.in_step for look in looks] == [1, 2, 3]
    assert [look.fresh for look in looks] == [1.0, 0.0, 0.0]


def test_a_good_release_is_vouched_for_and_a_bad_one_is_not() -> None:
    good, bad = Plane(canary_world(warm_up="0s")), Plane(canary_world(warm_up="0s"))
    for _ in range(120):
        good.second()
        bad.second(failures=0 if bad.verdict == "abort" else 8)
    assert (good.verdict, bad.verdict) == ("promote", "abort")


def test_an_old_judgement_says_nothing() -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    assert plane.verdict is not None
    plane.clock += FRESH_SECONDS + 0.1
    assert plane.verdict is None


def test_a_judgement_of_another_step_says_nothing() -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    next_step = replace(only(plane.world), step=2)
    assert plane.watch.judged(plane.draft(), next_step, plane.clock) is None


def test_a_rollout_that_waits_for_a_person_for_long_leaves_few_looks() -> None:
    plane = Plane(canary_world(warm_up="0s"))
    for _ in range(120):
        plane.second()
    plane.at(phase=Phase.PAUSED, resume_to=Phase.ANALYSING)
    before = len(plane.store.looks("catalog-r2"))
    for _ in range(4000):
        plane.second(seconds=0.5)
        assert plane.verdict == "promote", "it is looked at all the time"
    looks = plane.store.looks("catalog-r2")
    assert len(looks) - before <= 4000 * 0.5 / PAUSED_SECONDS + 1
    canary, control = plane.seen()
    assert control == 9 * canary and 4119 - canary / 10 < PAUSED_SECONDS / 0.5
    told = decisions(plane.comparison, looks)
    assert [one.taken for one in told] == [one.judgement.verdict for one in told]
    assert plane.comparison.in_step == 119, "a pause is no part of the step"
    plane.at(phase=Phase.ANALYSING, resume_to=None)
    plane.second()
    assert plane.comparison.in_step == 120 and plane.store.looks("catalog-r2")[-1].seconds == 1


def test_a_release_that_turns_bad_while_it_waits_is_noticed() -> None:
    plane = Plane(canary_world(Phase.PAUSED, warm_up="0s"))
    for _ in range(60):
        plane.second()
    waited = 0
    while plane.verdict != "abort":
        plane.second(failures=10)
        waited += 1
    assert waited < PAUSED_SECONDS


def test_what_waits_to_be_looked_at_is_counted_once_by_the_next_control_plane() -> None:
    plane = Plane(canary_world(Phase.PAUSED))
    for _ in range(16):
        plane.second()
    assert plane.seen()[0] < 150
    plane.new_control_plane()
    plane.second()
    assert plane.seen() == (160, 1440)


@given(st.lists(st.booleans(), max_size=30))
def test_a_new_control_plane_counts_nothing_twice_and_goes_on(restarts: list[bool]) -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    for restart in restarts:
        if restart:
            plane.new_control_plane()
        plane.second()
    looks = 1 + len(restarts)
    assert plane.seen() == (10 * looks, 90 * looks) and plane.comparison.looks == looks


def test_an_envoy_that_began_anew_is_counted_from_its_beginning() -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    plane.proxy = f"2@{plane.clock + 0.2:.2f}"
    plane.counted = {"catalog~a": (0, 0), "catalog~b": (0, 0)}
    plane.second()
    assert plane.seen() == (20, 180)


def test_an_envoy_that_was_there_unseen_adds_nothing_yet() -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    plane.proxy = "2@50.00"
    plane.second(new=9000)
    assert plane.seen() == (10, 90)
    plane.second()
    assert plane.seen() == (20, 180)


def test_counters_that_jump_back_add_nothing() -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    plane.counted = {"catalog~a": (3, 0), "catalog~b": (3, 0)}
    plane.second(new=0)
    canary, _ = plane.seen()
    assert canary == 10


@pytest.mark.parametrize(
    ("phase", "learns"),
    [(Phase.BUILDING, True), (Phase.ANALYSING, False), (Phase.ROLLING_BACK, False)],
)
def test_what_the_live_release_does_alone_is_learned(phase: Phase, learns: bool) -> None:
    plane = Plane(canary_world(phase))
    for _ in range(5):
        plane.second(new=0)
    known = plane.watch.history(plane.draft(), "catalog")
    assert (known.traffic.k > 0) == learns


def test_what_is_known_outlives_a_control_plane() -> None:
    plane = Plane(replace(canary_world(), rollouts={}))
    for _ in range(70):
        plane.second(new=0)
    before = plane.watch.history(plane.draft(), "catalog")
    plane.new_control_plane()
    after = plane.watch.history(plane.draft(), "catalog")
    assert 0 < after.traffic.k <= before.traffic.k


def test_after_a_switch_the_release_before_it_is_replayed_and_none_of_before_that() -> None:
    world = canary_world(Phase.SHIFTING, strategy="blue-green")
    plane = Plane(replace(world, rollouts={}))
    for _ in range(10):
        plane.second(new=0)
    service = plane.world.services["catalog"]
    live = replace(service.slots["a"], release="catalog@1.1")  # type: ignore[type-var]
    slots = dict(service.slots) | {"a": live}
    changed = replace(service, slots=slots)
    plane.store.commit([Change("service", "catalog", changed)], [])
    for _ in range(3):
        plane.second(new=0)
    plane.store.commit([Change("rollout", key, x) for key, x in world.rollouts.items()], [])
    plane.second()
    assert len(plane.comparison.frozen) == 3


def test_while_a_switch_waits_for_a_person_each_second_of_before_counts_once() -> None:
    world = canary_world(Phase.SHIFTING, strategy="blue-green")
    plane = Plane(replace(world, rollouts={}))
    for n in range(FROZEN_TICKS + 1):
        plane.second(new=0, old=100 + n)
    plane.store.commit([Change("rollout", key, x) for key, x in world.rollouts.items()], [])
    plane.world = world
    plane.at(phase=Phase.PAUSED, resume_to=Phase.ANALYSING)
    for _ in range(300):
        plane.second(old=0)
    controls = [look.control.requests for look in plane.store.looks("catalog-r2")]
    assert sum(controls) == sum(range(101, 101 + FROZEN_TICKS)) and controls[-1] == 0
    while plane.verdict != "abort":
        plane.second(failures=10, old=0)
    assert plane.store.looks("catalog-r2")[-1].control == Arm(), "an alarm needs no comparison"


def test_a_service_that_is_gone_is_forgotten() -> None:
    plane = Plane(replace(canary_world(), rollouts={}))
    for _ in range(70):
        plane.second(new=0)
    assert plane.store.documents("past")
    plane.store.commit([Change("service", "catalog", None)], [])
    plane.second(new=0)
    assert not plane.store.documents("past")


def test_a_metric_from_elsewhere_holds_what_requests_would_promote() -> None:
    metric = {"queue": {"command": "./queue", "limit": "< 5", "failures": 2}}
    plane = Plane(canary_world(warm_up="0s", metrics=metric))
    key = metric_key(only(plane.world), "queue", "new")
    for _ in range(120):
        plane.second()
    assert plane.verdict == "continue"
    for at in (1.0, 2.0):
        plane.answers = {key: Answer("yes", "9", 9.0, at)}
        plane.second()
        plane.second()
    assert plane.verdict == "abort"
    assert plane.comparison.streaks["queue"].failures == 2


def test_a_metric_vouches_only_for_the_step_it_was_measured_in() -> None:
    metric = {"queue": {"command": "./queue", "limit": "< 5", "every": "5m"}}
    plane = Plane(canary_world(Phase.SHIFTING, warm_up="0s", metrics=metric))
    key = metric_key(only(plane.world), "queue", "new")

    def measured(at: float) -> str | None:
        plane.answers = {key: Answer("yes", "1", 1.0, at)}
        for _ in range(120):
            plane.second()
        return plane.verdict

    assert measured(1.0) == "continue", "not one request had it when that was measured"
    plane.at(phase=Phase.ANALYSING)
    assert measured(1.0) == "continue"
    said = plane.watch.judged(plane.draft(), only(plane.world), plane.clock)
    assert said and said.reason == "waits: queue 1, limit < 5: not measured in this step yet"
    assert measured(2.0) == "promote"
    plane.at(step=2)
    assert measured(2.0) == "continue"
    assert measured(3.0) == "promote"


def test_our_requests_may_come_when_users_turn_out_to_be_too_few() -> None:
    """They come on top of the shares, also where the comparison has begun without them."""
    plane = Plane(canary_world())
    for _ in range(10):
        plane.second()
    service = plane.world.services["catalog"]
    ours = canary_world(synthetic=[{"path": "/"}]).services["catalog"].config
    for config in (ours, service.config):  # what was counted stays when they are given up again
        changed = replace(service, config=config)
        plane.store.commit([Change("service", "catalog", changed)], [])
        for _ in range(120):
            plane.second(new=75)
            assert plane.verdict != "inconclusive"


def test_what_was_decided_by_copies_alone_is_replayed_as_it_was() -> None:
    found = canary_world(mirror="20%")
    service = found.services["catalog"]
    slots: dict[SlotName, Slot | None] = {
        "a": Slot("catalog@1", Track.STABLE, 4, 100),
        "b": Slot("catalog@2", Track.CANARY, 1, 0, 20),
    }
    plane = Plane(replace(found, services={"catalog": replace(service, slots=slots)}))
    for _ in range(130):
        plane.second(new=10)
    assert plane.verdict == "promote", "no alarm rang in two minutes"
    told = decisions(plane.comparison, plane.store.looks("catalog-r2"))
    assert [one.taken for one in told] == [one.judgement.verdict for one in told]
    assert "only GET, HEAD and OPTIONS are copied" in told[-1].judgement.reason


def test_metrics_are_heard_after_the_machine_began_anew() -> None:
    """Its steady clock begins at nothing then."""
    metric = {"queue": {"command": "./queue", "limit": "< 5", "failures": 2}}
    plane = Plane(canary_world(warm_up="0s", metrics=metric))
    key = metric_key(only(plane.world), "queue", "new")
    for at in (90000.0, 5.0):
        plane.answers = {key: Answer("yes", "9", 9.0, at)}
        plane.second()
        plane.second()
    assert plane.comparison.streaks["queue"].failures == 2


def test_who_is_looked_at_every_second() -> None:
    assert attended(canary_world()) == {"catalog"}
    assert attended(canary_world(Phase.DONE)) == frozenset()


def test_a_look_that_could_not_be_written_down_counts_for_nothing() -> None:
    plane = Plane(canary_world())
    plane.second()
    plane.second()
    assert plane.verdict is not None
    plane.number += 1
    plane.clock += 1
    plane.watch.look(plane.draft(), plane.sample(), plane.answers, plane.clock)  # never committed
    assert plane.verdict is None


def test_lines_are_written_now_and_then_and_with_every_new_verdict() -> None:
    plane = Plane(canary_world(warm_up="0s"))
    said: list[Judgement] = []
    for _ in range(60):
        plane.second(5 if len(said) > 20 else 0, new=5, seconds=0.5)
        found = plane.watch.judged(plane.draft(), only(plane.world), plane.clock)
        said += [found] if found else []
    assert [one.verdict for one in said][-1] == "abort"
    kept = [a.lines is b.lines for a, b in pairwise(said) if a.verdict == b.verdict]
    changed = [a.lines is b.lines for a, b in pairwise(said) if a.verdict != b.verdict]
    assert kept.count(False) == pytest.approx(len(kept) / 4, abs=2)
    assert changed and not any(changed)


def first_release(finished_at: float, from_release: str | None = None) -> World:
    """The catalog just after its first release came."""
    found = canary_world()
    came = replace(
        only(found),
        id="catalog-r1",
        slot="a",
        to_release="catalog@1",
        from_release=from_release,
        phase=Phase.DONE,
        finished_at=finished_at,
    )
    return replace(found, rollouts={came.id: came})


def youth(world: World, *, early: int = 0) -> tuple[bool, Start]:
    """Whether the live release is watched as a young one 5 s after it came, and what is known at
    the end; `early` requests came before that."""
    coming = {
        key: replace(item, phase=Phase.STARTING, finished_at=None)
        for key, item in world.rollouts.items()
    }
    plane = Plane(replace(world, rollouts=coming))
    plane.counted = {"catalog~a": (early, 0), "catalog~b": (0, 0)}
    plane.number = 1
    plane.look()
    plane.store.commit([Change("rollout", key, x) for key, x in world.rollouts.items()], [])
    for _ in range(5):
        plane.second(new=0)
    watched = "catalog" in plane.watch.young
    for _ in range(60):
        plane.second(new=0)
    assert "catalog" not in plane.watch.young
    return watched, plane.watch.history(plane.draft(), "catalog").start


def test_how_cold_a_first_release_is_is_seen_from_its_first_request_on() -> None:
    watched, start = youth(first_release(1100.0))
    assert watched and start != UNKNOWN and start.octaves < 1


@pytest.mark.parametrize(
    ("world", "early"),
    [
        (first_release(1100.0), 50),
        (first_release(1000.0), 0),
        (first_release(1100.0, "catalog@0"), 0),
        (replace(canary_world(), rollouts={}), 0),
    ],
)
def test_what_did_not_begin_before_our_eyes_teaches_nothing(world: World, early: int) -> None:
    assert youth(world, early=early) == (False, UNKNOWN)


@pytest.mark.parametrize("no_baseline", [None, "", "it crashes"])
def test_how_cold_a_canary_was_is_known_of_it_once_it_is_the_live_one(
    no_baseline: str | None,
) -> None:
    """Beside a baseline, that is as young, nobody sees it."""
    plane = Plane(canary_world(warm_up="20s", baseline=no_baseline is not None))
    for _ in range(20):
        plane.second()
    plane.at(no_baseline=no_baseline or "")
    plane.second()
    measured = plane.comparison.state.start if no_baseline is None else UNKNOWN
    assert measured is not None and (measured == UNKNOWN) == (no_baseline is not None)
    done = replace(only(plane.world), phase=Phase.DONE, finished_at=1100.0)
    service = replace(plane.world.services["catalog"], active="b")
    plane.store.commit(
        [Change("rollout", done.id, done), Change("service", "catalog", service)], []
    )
    plane.second()
    known = plane.watch.history(plane.draft(), "catalog")
    assert (known.release, known.start) == ("catalog@2", measured)


def test_a_canary_may_be_as_cold_as_the_last_one_was() -> None:
    plane = Plane(canary_world(warm_up="20s"))
    known = of_release(
        plane.watch.history(plane.draft(), "catalog"), "catalog@1", Start(0.002, 0.1)
    )
    plane.store.commit([Change("past", "catalog", Past("catalog", known))], [])
    plane.new_control_plane()
    plane.second()
    plane.second()
    policy = plane.comparison.policy
    assert (policy.cold_errors, policy.cold_octaves) == (0.004, 0.2)
