"""Copies are compared with all requests only where nearly all requests are copied."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest
from unit.decide.judge.traffic import known
from unit.decide.worlds import canary_world, only

from volery.decide.comparison import arms_of, begin, copied, judgement, looked, old_group
from volery.decide.copies import ENOUGH_SECONDS, GIVEN_UP_SECONDS
from volery.decide.evidence import Tick
from volery.decide.world import World
from volery.model.evidence import Arm, bucket
from volery.model.state import Slot, SlotName, Track

RATE, MIRROR = 50, 0.2
SECONDS = 300
MS = {"GET": 40.0, "POST": 8.0}
OLD = known(rate=RATE)


def copies_world(methods: str = "safe") -> World:
    """The catalog's canary gets copies of a fifth of the requests."""
    found = canary_world(mirror="20%", mirror_methods=methods)
    slots: dict[SlotName, Slot | None] = {
        "a": Slot("catalog@1", Track.STABLE, 4, 100),
        "b": Slot("catalog@2", Track.CANARY, 1, 0, 100 * MIRROR),
    }
    service = replace(found.services["catalog"], slots=slots)
    rollout = replace(only(found), steps=4)
    return replace(found, services={"catalog": service}, rollouts={rollout.id: rollout})


def arm(line: random.Random, answered: list[str], slower: float = 1.0, fails: float = 0.0) -> Arm:
    latency: dict[int, int] = {}
    for method in answered:
        at = bucket(MS[method] * slower * line.lognormvariate(0, 0.4))
        latency[at] = latency.get(at, 0) + 1
    failures = sum(line.random() < fails for _ in answered)
    return Arm(len(answered), failures, latency, instance_seconds=1.0)


def ended(
    gets: float,
    *,
    methods: str = "safe",
    slower: float = 1.0,
    fails: float = 0.0,
    late: int = 0,
    outage: range = range(0),
) -> tuple[str, str, int]:
    """The verdict on copies of which so many are of GETs, why, and after how many seconds. Answers
    come `late` seconds after their requests; in the seconds of an outage both releases fail."""
    found, line = copies_world(methods), random.Random(1)
    rollout, service = only(found), found.services["catalog"]
    comparison = begin(rollout, service, OLD, ())
    under_way: deque[list[str]] = deque([[]] * late)
    for second in range(1, SECONDS + 1):
        sent = ["GET" if line.random() < gets else "POST" for _ in range(RATE)]
        may = [method for method in sent if method == "GET" or methods == "all"]
        under_way.append([method for method in may if line.random() < MIRROR])
        out = float(second in outage)
        new = arm(line, under_way.popleft(), slower, max(fails, out))
        tick = Tick(1.0, {"a": arm(line, sent, fails=out), "b": new})
        comparison = copied(comparison, rollout, service, tick)
        both = arms_of(found, rollout, tick, replace(comparison, looks=1))
        old = old_group(rollout, tick, comparison)
        comparison = looked(comparison, rollout, both, 1.0, old)
        said = judgement(comparison, rollout, service)
        if said.verdict != "continue":
            return said.verdict, said.reason, second
    return said.verdict, said.reason, SECONDS


def test_where_half_is_copied_only_alarms_are_asked_and_then_it_goes_on() -> None:
    verdict, reason, after = ended(0.5)
    assert (verdict, after) == ("promote", ENOUGH_SECONDS)
    assert "GET, HEAD and OPTIONS" in reason
    verdict, _, after = ended(0.5, fails=1.0)
    assert verdict == "abort" and after < 10


def test_an_outage_of_both_is_no_alarm_also_where_copies_are_compared_with_nothing() -> None:
    assert ended(0.5, outage=range(30, 36))[0] == "promote"


@pytest.mark.parametrize(("gets", "methods"), [(1.0, "safe"), (0.5, "all")])
def test_where_all_is_copied_it_is_compared(gets: float, methods: str) -> None:
    good, bad = ended(gets, methods=methods), ended(gets, methods=methods, slower=4.0)
    assert good[0] == "promote" and good[2] < ENOUGH_SECONDS and "no worse" in good[1]
    assert bad[0] == "abort" and bad[2] < GIVEN_UP_SECONDS


def test_one_that_answers_late_is_not_taken_for_one_that_is_not_asked() -> None:
    verdict, _, after = ended(1.0, slower=500.0, late=20)
    assert verdict == "abort" and after < ENOUGH_SECONDS


def test_with_its_first_share_it_is_compared_again() -> None:
    found = copies_world()
    rollout, service = only(found), found.services["catalog"]
    tick = Tick(1.0, {"a": Arm(100), "b": Arm(5)})
    comparison = copied(begin(rollout, service, OLD, ()), rollout, service, tick)
    assert arms_of(found, rollout, tick, comparison)[1] == Arm()
    slots = dict(service.slots) | {"b": Slot("catalog@2", Track.CANARY, 1, 10)}
    onward = copied(comparison, rollout, replace(service, slots=slots), tick)
    assert arms_of(found, rollout, tick, onward)[1].requests == 100
