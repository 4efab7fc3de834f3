"""What of the new group leaves when a rolling deploy is turned round, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.decide.worlds import application, running

from volery.decide.rollout import Situation, abort, step
from volery.decide.strategy import Group, View
from volery.model.evidence import Verdict
from volery.model.state import Phase, Rollout, ServiceState, Slot, Track

SCALE = 10
Shape = tuple[tuple[int, float], tuple[int, float]]


def turned(
    verdict: Verdict | None = None, strategy: str = "rolling", **service: object
) -> tuple[Rollout, ServiceState]:
    """Nine of ten are new when it is turned round."""
    found = running(application(web={"scale": SCALE} | service)).services["web"]
    old, new = Slot("web@1", Track.STABLE, 1, 10), Slot("web@2", Track.STABLE, 9, 90)
    rollout = Rollout(
        id="web-r2",
        service="web",
        from_release="web@1",
        to_release="web@2",
        strategy=strategy,  # type: ignore[arg-type]
        slot="b",
        group="web-r2",
        created_at=0.0,
        since=0.0,
        phase=Phase.SHIFTING,
        step=9,
        steps=SCALE,
        ready_before=SCALE,
    )
    there = replace(found, slots={"a": old, "b": new})
    return abort(rollout, there, "superseded by web-r3", 1.0, verdict=verdict)


def shape(service: ServiceState) -> Shape:
    """Count and weight of the old group and of the new one."""
    old, new = service.slots["a"], service.slots["b"]
    assert old is not None and new is not None
    return (old.count, old.weight), (new.count, new.weight)


def view(old: int, new: int = 9, failure: str = "", in_phase: float = 1.0) -> Situation:
    there = Group(new, new, failure=failure)
    seen = View(now=2.0, old=Group(old, old), new=there, settled=True, in_phase=in_phase)
    return Situation(seen, None, True, "go")


@pytest.mark.parametrize(
    ("old", "new", "after"),
    [
        (1, 9, ((10, 10), (9, 90))),
        (3, 9, ((10, 25), (9, 75))),
        (9, 9, ((10, 50), (9, 50))),
        (3, 7, ((10, 30), (9, 70))),
        (10, 9, ((10, 100), (9, 0))),
    ],
)
def test_a_release_that_is_not_at_fault_serves_until_the_old_one_has_its_size(
    old: int, new: int, after: Shape
) -> None:
    rollout, service = turned()
    rollout, service = step(rollout, service, view(old, new))
    assert rollout.phase is Phase.ROLLING_BACK
    assert shape(service) == after


def test_it_goes_when_all_requests_have_left_it() -> None:
    rollout, service = step(*turned(), view(10))
    rollout, service = step(rollout, service, view(10))
    assert shape(service) == ((10, 100), (0, 0))
    rollout, service = step(rollout, service, view(10, 0))
    assert rollout.phase is Phase.ROLLED_BACK and service.slots["b"] is None


@pytest.mark.parametrize(
    ("start", "now"),
    [
        (turned("abort"), view(1)),
        (turned(), view(1, failure="web-2-1 crashed after it was ready")),
        (turned(), view(1, in_phase=61.0)),
        (turned(state={"volume": "d"}), view(1)),
    ],
    ids=["at fault", "it fails", "the old one does not start", "one writer"],
)
def test_else_the_old_one_has_all_requests_at_once(
    start: tuple[Rollout, ServiceState], now: Situation
) -> None:
    rollout, service = step(*start, now)
    assert shape(step(rollout, service, now)[1]) == ((10, 100), (0, 0))


def test_one_that_must_be_alone_comes_back_when_the_one_before_has_had_its_time_to_leave() -> None:
    rollout, service = turned(strategy="recreate", health={"startup": "20s"})
    for _ in range(2):  # the new ones go, and then those there were before may come
        rollout, service = step(rollout, service, view(0, 0))
    assert shape(service) == ((SCALE, 100), (0, 0))
    away = service.config.stop.drain + service.config.stop.grace
    assert step(rollout, service, view(0, 0, in_phase=19 + away))[0].phase is Phase.ROLLING_BACK
    assert step(rollout, service, view(0, 0, in_phase=20 + away))[0].phase is Phase.ROLLED_BACK
