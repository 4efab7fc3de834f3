"""Whose fault a crash is."""

from __future__ import annotations

from dataclasses import replace

from unit.decide.worlds import application, running, slot

from volery.decide.blame import crash_loop, deploy_at_fault, machine_at_fault
from volery.decide.submit import earlier
from volery.decide.world import World
from volery.model.ports import Exit
from volery.model.state import Phase, Release, Rollout

NOW = 10_000.0
APP = application(web={"scale": 2, "needs": ["store"]}, store={}, mail={}, cart={})


def crashed(world: World, service: str, *ends: Exit) -> World:
    identity = f"{service}-1-1"
    seen = replace(world.observed[identity], exits=ends)
    return replace(world, observed={**world.observed, identity: seen})


def ended(code: int = 1, ago: float = 5.0) -> Exit:
    return Exit(code=code, at=NOW - ago)


def deployed(world: World, ago: float, cause: str = "deploy") -> World:
    service = world.services["web"]
    done = [
        Rollout(
            *(f"web-r{number}", "web", f"web@{version}", "rolling", "a", "g", 0.0, 0.0),
            from_release=origin,
            cause=cause,  # type: ignore[arg-type]
            phase=Phase.DONE,
            finished_at=NOW - ago - 100 * (2 - number),
        )
        for number, version, origin in ((1, "0", None), (2, "1", "web@0"))
    ]
    old = Release("web@0", "web", "0", service.config, 0.0, state="kept")
    assert service.slots["a"] == slot("web@1", 2)
    return replace(
        world,
        rollouts={item.id: item for item in done},
        releases=dict(world.releases) | {old.id: old},
    )


def test_three_crashes_in_a_minute_are_a_loop() -> None:
    world = crashed(running(APP), "web", ended(), ended())
    assert not crash_loop(world, world.services["web"], NOW)
    world = crashed(world, "web", ended(), ended(), ended(7))
    assert "exit code 7" in crash_loop(world, world.services["web"], NOW)
    world = crashed(world, "web", ended(ago=100), ended(ago=90), ended())
    assert not crash_loop(world, world.services["web"], NOW)


def test_what_was_killed_from_outside_is_no_crash_but_for_want_of_memory_it_is() -> None:
    killed = [Exit(signal="SIGKILL", at=NOW - 1)] * 3
    world = crashed(running(APP), "web", *killed)
    assert not crash_loop(world, world.services["web"], NOW)
    world = crashed(world, "web", *(replace(item, out_of_memory=True) for item in killed))
    assert crash_loop(world, world.services["web"], NOW)


def test_a_deploy_is_to_blame_right_after_it_and_only_if_it_can_be_taken_back() -> None:
    world = deployed(running(APP), ago=30)
    found = deploy_at_fault(world, world.services["web"], NOW)
    assert found is not None
    assert found.id == "web-r2"
    late = deployed(running(APP), ago=3600)
    assert deploy_at_fault(late, late.services["web"], NOW) is None
    again = deployed(running(APP), ago=30, cause="rollback")
    assert deploy_at_fault(again, again.services["web"], NOW) is None
    first = running(APP)
    assert deploy_at_fault(first, first.services["web"], NOW) is None


def test_the_same_crash_in_unrelated_services_is_the_machines_fault() -> None:
    world = running(APP)
    for name in ("store", "mail", "cart"):
        world = crashed(world, name, ended(9))
    assert "cart, mail, store ended at the same time" in machine_at_fault(world, NOW)


def test_callers_that_crash_with_their_need_are_related() -> None:
    world = running(APP)
    for name in ("web", "store", "mail"):
        world = crashed(world, name, ended(9))
    assert not machine_at_fault(world, NOW)


def test_different_crashes_are_a_coincidence() -> None:
    world = running(APP)
    for code, name in enumerate(("store", "mail", "cart"), 1):
        world = crashed(world, name, ended(code))
    assert not machine_at_fault(world, NOW)


def test_the_newest_deploy_is_the_last_one_also_after_the_clock_was_set_back() -> None:
    world = deployed(running(APP), ago=30)
    first = replace(world.rollouts["web-r1"], finished_at=NOW + 3600)
    world = replace(world, rollouts=dict(world.rollouts) | {first.id: first})
    found = deploy_at_fault(world, world.services["web"], NOW)
    assert found is not None and found.id == "web-r2"


def test_the_release_before_is_the_last_one_also_after_the_clock_was_set_back() -> None:
    world = deployed(running(APP), ago=30)
    older = Release("web@x", "web", "x", world.services["web"].config, 0.0, state="kept")
    before = replace(world.rollouts["web-r1"], id="web-r0", to_release=older.id, finished_at=NOW)
    world = replace(
        world,
        rollouts=dict(world.rollouts) | {before.id: before},
        releases=dict(world.releases) | {older.id: older},
    )
    assert earlier(world, world.services["web"], None).id == "web@0"
