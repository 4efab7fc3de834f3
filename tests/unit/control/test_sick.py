"""What is gathered about instances: what a cold start is excused for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from unit.decide.test_stateful import WELL, database
from unit.decide.worlds import application, running, seen

from volery.control.sick import Evidence
from volery.decide.evidence import Tick
from volery.decide.world import World
from volery.model.evidence import Arm, bucket
from volery.model.healing import Ailment

GIB = 2**30
LOADING, SECONDS = 25, 60


def measured(
    evidence: Evidence, world: World, second: int, state: str, share: float
) -> Mapping[str, Ailment]:
    """What is said after one more measurement, at this share of the limit."""
    there = seen("web-1-1", 1, state, memory=int(share * 2 * GIB), measured_at=float(second))
    world = replace(world, observed={"web-1-1": there})
    evidence.measure(world)
    return evidence.leaks(world, world.services["web"])


def one_with_a_limit() -> World:
    return running(application(web={"resources": {"memory": "2Gi"}, "scale": 1}))


def test_what_loads_much_while_it_starts_is_no_leak() -> None:
    evidence, world = Evidence(), one_with_a_limit()
    for second in range(LOADING + SECONDS):
        state = "starting" if second < LOADING else "ready"
        share = 0.02 + 0.83 * min(1.0, second / LOADING)
        assert measured(evidence, world, second, state, share) == {}
    assert evidence.filling == {"web"}


def test_what_grows_once_it_is_ready_is_one() -> None:
    evidence, world = Evidence(), one_with_a_limit()
    said = [measured(evidence, world, second, "ready", 0.6 + 0.01 * second) for second in range(35)]
    assert said[-1]["web-1-1"].kind == "leaking"


FRESH, OTHERS = "web-1-3", ("web-1-1", "web-1-2")
ARRIVES = 90


def slow_after(ms: Callable[[int], float]) -> float | None:
    """When a fresh instance beside two warm ones of 20 ms was called slow, in seconds after it
    came; `ms` is how long it answers then."""
    world, evidence = running(application(web={"scale": 3})), Evidence()
    beside = dict(world.observed)
    del beside[FRESH]
    for second in range(ARRIVES + 90):
        since = second - ARRIVES
        taken = {key: 20.0 for key in OTHERS} | ({FRESH: ms(since)} if since >= 0 else {})
        tick = Tick(
            1.0,
            instances={key: Arm(20) for key in taken},
            served={key: {bucket(value): 20} for key, value in taken.items()},
        )
        now = replace(world, observed=world.observed if since >= 0 else beside)
        evidence.take(now, now.services["web"], tick, float(second))
        if found := evidence.outliers("web"):
            assert [(item.instance, item.kind) for item in found.values()] == [(FRESH, "slow")]
            return since
    return None


def test_one_that_warms_up_is_not_slow() -> None:
    assert slow_after(lambda since: 20.0 * (1 + 9 * 2 ** (-since / 3))) is None


def test_one_that_stays_slow_is_found_once_it_should_be_warm() -> None:
    found = slow_after(lambda since: 200.0)
    assert found is not None and 60 <= found < 80


def test_failures_count_from_the_first_second_on() -> None:
    world, evidence = running(application(web={"scale": 3})), Evidence()
    arms = {key: Arm(20) for key in OTHERS} | {FRESH: Arm(20, 20)}
    for second in range(20):
        evidence.take(world, world.services["web"], Tick(1.0, instances=arms), float(second))
    assert evidence.outliers("web")[FRESH].kind == "errors"


def test_a_primary_is_not_compared_with_its_replicas() -> None:
    world, evidence = database(WELL), Evidence()
    arms = {f"db-{number}": Arm(20, 20 if number == 0 else 0) for number in WELL}
    for second in range(40):
        evidence.take(world, world.services["db"], Tick(1.0, instances=arms), float(second))
    assert evidence.outliers("db") == {}
