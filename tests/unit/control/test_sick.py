"""What is gathered about instances: memory that fills at a start is no leak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unit.decide.worlds import application, running, seen

from volery.control.sick import Evidence
from volery.decide.world import World
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
