"""What is said of services that left the manifest and are still there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, canary_world, leaving, running

from volery.decide.plan import make_plan
from volery.decide.removed import why_kept, why_there
from volery.decide.submit import Order, submit
from volery.decide.world import World
from volery.model.application import Application, Route
from volery.model.state import Release


def after(world: World, now: Application, **environment: Any) -> World:
    """The world a moment after this manifest was applied, and its rollouts are over."""
    assert world.environment is not None
    services = {
        name: replace(
            item, config=now.services.get(name, item.config), removing=name not in now.services
        )
        for name, item in world.services.items()
    }
    applied = replace(world.environment, application=now, **environment)
    return replace(world, services=services, environment=applied)


def said(world: World) -> dict[str, str | None]:
    return {name: why_there(world, item) for name, item in world.services.items()}


def test_nothing_is_said_of_what_is_in_the_manifest() -> None:
    assert set(said(running(application(web={"needs": ["api"]}, api={}))).values()) == {None}


def test_a_release_that_may_call_it() -> None:
    world = running(application(web={"needs": ["api"]}, api={"needs": ["db"]}, db={}))
    world = after(world, application(web={}))
    assert said(world) == {
        "web": None,
        "api": "it is not in the manifest any more; stays while web@1 may call it",
        "db": "it is not in the manifest any more; stays while api@1 may call it",
    }


def test_users_who_reach_it() -> None:
    before = application(web={})
    world = after(
        running(before),
        application(front={}),
        awaited=("front",),
        routes_before=(Route(path="/", service="web"),),
    )
    text = "it is not in the manifest any more; stays while users reach it at / until front serves"
    assert said(world) == {"web": text}


def test_an_up_that_is_not_through() -> None:
    world = canary_world(cause="up")
    more = running(application(old={}))
    world = replace(world, services={**world.services, **leaving(more).services})
    text = "it is not in the manifest any more; stays until the running up is over"
    assert said(world) == {"catalog": None, "old": text}


@pytest.mark.parametrize(
    ("counts", "how"), [({}, "goes after web"), ({"web": 0, "api": 1}, "is going")]
)
def test_what_goes(counts: dict[str, int], how: str) -> None:
    world = leaving(running(application(web={"needs": ["api"]}, api={}), counts))
    assert said(world)["api"] == f"it is not in the manifest any more; {how}"
    assert why_kept(world, world.services["api"]) is None


def test_a_plan_tells_it_and_another_up_leaves_it_as_it_is() -> None:
    now = application(web={})
    world = after(running(application(web={"needs": ["api"]}, api={})), now)
    web = world.releases["web@1"]
    made = {"web": Release(web.id, "web", "1", web.spec, 0.0, state="built")}
    plan = make_plan(world, now, made)
    assert [(step.verb, step.service) for step in plan] == [("keep", "web"), ("keep", "api")]
    assert plan[1].because == why_kept(world, world.services["api"])
    given = submit(world, now, plan, made, Order("up", "dev", 1.0))
    assert [item.name for item in given.services] == ["web"] and not given.removed


def test_a_plan_tells_nothing_of_what_is_going() -> None:
    now = application(web={})
    world = running(application(web={}, api={}))
    world = after(world, now)
    assert [step.service for step in make_plan(world, now, {"web": world.releases["web@1"]})] == [
        "web"
    ]
