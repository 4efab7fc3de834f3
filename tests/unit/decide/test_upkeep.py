"""What a service's groups should be while no rollout of it is under way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.decide.worlds import application, leaving, running

from volery.decide.upkeep import upkeep
from volery.decide.world import World
from volery.model.state import BASELINE, ServiceState, Slot, Track


def after_a_canary(
    *, warm_until: float | None = 700.0, baseline: int = 0
) -> tuple[World, ServiceState]:
    """The catalog of four after a rollout: slot b serves, a is warm, and there was a baseline."""
    found = running(application(catalog={"scale": 4}))
    slots = {
        "a": Slot("catalog@1", Track.BLUE, 4, 0),
        "b": Slot("catalog@2", Track.STABLE, 4, 100),
        BASELINE: Slot("catalog@1", Track.BASELINE, baseline, 0),
    }
    service = replace(
        found.services["catalog"],
        slots=slots,  # type: ignore[arg-type]
        active="b",
        warm_until=warm_until,
    )
    return found, service


def counts(service: ServiceState) -> dict[str, int]:
    return {name: slot.count for name, slot in service.slots.items() if slot}


def test_a_baseline_stays_away_while_the_old_group_is_warm() -> None:
    world, service = after_a_canary()
    assert upkeep(world, service, 100.0) == service


@pytest.mark.parametrize("scale", [1, 7])
def test_another_size_is_for_the_group_that_serves_and_the_warm_one(scale: int) -> None:
    world, service = after_a_canary()
    sized = upkeep(world, replace(service, scale=scale), 100.0)
    assert counts(sized) == {"a": scale, "b": scale, BASELINE: 0}


@pytest.mark.parametrize(
    ("now", "stays"),
    [(100.0, True), (699.0, True), (700.0, False), (5000.0, False), (50.0, False)],
)
def test_the_warm_group_goes_when_its_time_is_over_or_the_clock_was_set_back(
    now: float, stays: bool
) -> None:
    world, service = after_a_canary()
    kept = upkeep(world, service, now)
    assert counts(kept) == {"a": 4 if stays else 0, "b": 4, BASELINE: 0}
    assert kept.warm_until == (700.0 if stays else None)


def test_without_a_warm_group_nothing_comes_back() -> None:
    world, service = after_a_canary(warm_until=None)
    assert counts(upkeep(world, replace(service, scale=2), 100.0)) == {"a": 0, "b": 2, BASELINE: 0}


def test_a_service_that_leaves_has_nothing() -> None:
    world, service = after_a_canary(baseline=1)
    world = leaving(replace(world, services={"catalog": service}))
    assert set(counts(upkeep(world, world.services["catalog"], 100.0)).values()) == {0}


@pytest.mark.parametrize(
    ("needs", "first"),
    [
        ({"a": {"b": "critical"}, "b": {}}, ["a"]),
        ({"a": {"b": "critical"}, "b": {"a": "degradable"}}, ["a"]),
        ({"a": {"b": "degradable"}, "b": {"a": "degradable"}}, ["a", "b"]),
        ({"a": {"b": "degradable"}, "b": {"c": "degradable"}, "c": {"a": "unknown"}}, ["b", "c"]),
        ({"a": {"a": "degradable"}}, ["a"]),
    ],
)
def test_callers_leave_before_their_needs_and_a_circle_does_not_wait_for_itself(
    needs: dict[str, dict[str, str]], first: list[str]
) -> None:
    found = running(
        application(
            **{
                name: {"needs": {need: {"importance": how} for need, how in mine.items()}}
                for name, mine in needs.items()
            }
        )
    )
    world = leaving(found)
    gone = [
        name
        for name, item in world.services.items()
        if set(counts(upkeep(world, item, 0.0)).values()) == {0}
    ]
    assert sorted(gone) == first


def test_what_a_rollout_that_was_given_up_left_goes_and_the_live_group_has_everything() -> None:
    world = running(application(catalog={"scale": 4}))
    given_up = replace(
        world.services["catalog"],
        slots={
            "a": Slot("catalog@1", Track.STABLE, 1, 10),
            "b": Slot("catalog@2", Track.CANARY, 3, 80, mirror=5),
            BASELINE: Slot("catalog@1", Track.BASELINE, 1, 10),
        },
    )
    service = upkeep(world, given_up, 100.0)
    assert counts(service) == {"a": 4, "b": 0, BASELINE: 0}
    assert [slot.weight for slot in service.slots.values() if slot] == [100, 0, 0]
    assert all(slot.mirror == 0 for slot in service.slots.values() if slot)
