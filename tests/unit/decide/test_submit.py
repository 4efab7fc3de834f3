"""Plans and wishes -> documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, canary_world, only, running, slot

from volery.decide.plan import make_plan
from volery.decide.submit import Order, rollback, submit
from volery.decide.world import World
from volery.model.deploy import Deploy
from volery.model.errors import Code, VoleryError
from volery.model.state import Phase, ServiceState, Slot, SlotName

Slots = dict[SlotName, Slot | None]
BEGAN_WITH = {"steps": (0.1, 0.5), "mirror": 0.0, "baseline": False}
EDITS = [{"steps": (0.25,)}, {"mirror": 0.1}, {"baseline": True}]


def edited(world: World, cause: str, **deploy: Any) -> ServiceState:
    """The service after its owner changed how it is deployed, and no more."""
    body = {"strategy": "canary", "steps": ["10%", "50%"], "at_most": "33s"} | deploy
    app = application(catalog={"scale": 4, "deploy": body})
    releases = {"catalog": world.releases["catalog@2"]}
    plan = make_plan(world, app, releases, {"catalog"} if cause == "deploy" else None)
    (found,) = submit(world, app, plan, releases, Order(cause, "ann", 1.0)).services
    return found


def stages_of(deploy: Deploy) -> dict[str, Any]:
    return deploy.model_dump(include=set(BEGAN_WITH))


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("cause", ["deploy", "up"])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYSING])
def test_a_canary_goes_on_by_the_stages_it_began_with(
    edit: dict[str, Any], cause: str, phase: Phase
) -> None:
    world = canary_world(phase)
    after = edited(world, cause, **edit)
    assert stages_of(after.config.deploy) == BEGAN_WITH
    assert after.config.deploy.at_most == 33.0, "the rest is taken"
    ended = edited(replace(world, services={"catalog": after}, rollouts={}), "up", **edit)
    assert stages_of(ended.config.deploy) == BEGAN_WITH | edit


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.ROLLING_BACK])
def test_one_that_has_not_begun_or_is_over_is_no_reason(edit: dict[str, Any], phase: Phase) -> None:
    after = edited(canary_world(phase), "deploy", **edit)
    assert stages_of(after.config.deploy) == BEGAN_WITH | edit


def test_a_canary_goes_on_by_its_stages_also_where_a_refused_release_is_wanted() -> None:
    world = canary_world(Phase.ANALYSING)
    app = application(catalog={"scale": 4, "deploy": {"strategy": "canary", "steps": ["50%"]}})
    bad = replace(world.releases["catalog@2"], id="catalog@3", state="refused")
    world = replace(world, releases=dict(world.releases) | {bad.id: bad})
    plan = make_plan(world, app, {"catalog": bad})
    found = submit(world, app, plan, {"catalog": bad}, Order("up", "ann", 1.0))
    assert [item.verb for item in plan] == ["keep"] and not found.superseded
    assert stages_of(found.services[0].config.deploy) == BEGAN_WITH


def test_a_canary_that_waits_behind_a_rollback_takes_the_newest_stages() -> None:
    world = canary_world(Phase.ANALYSING, "rollback", strategy="blue-green")
    newer = replace(only(world), id="catalog-r3", to_release="catalog@3", phase=Phase.BUILDING)
    made = replace(world.releases["catalog@2"], id="catalog@3")
    world = replace(
        world,
        rollouts=dict(world.rollouts) | {newer.id: replace(newer, strategy="canary")},
        releases=dict(world.releases) | {made.id: made},
    )
    app = application(catalog={"scale": 4, "deploy": {"strategy": "canary", "steps": ["25%"]}})
    plan = make_plan(world, app, {"catalog": made})
    (after,) = submit(world, app, plan, {"catalog": made}, Order("up", "ann", 1.0)).services
    assert stages_of(after.config.deploy) == BEGAN_WITH | {"steps": (0.25,)}


@pytest.mark.parametrize("strategy", ["rolling", "recreate"])
@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.ROLLING_BACK])
@pytest.mark.parametrize(("cause", "size"), [("deploy", 10), ("up", 4)])
@pytest.mark.parametrize("version", ["1", "3"])
def test_a_size_set_by_hand_stays_while_the_old_instances_of_a_rollout_leave(
    strategy: str, phase: Phase, cause: str, size: int, version: str
) -> None:
    world = canary_world(phase, strategy=strategy)
    slots: Slots = {"a": slot("catalog@1", 0, 0), "b": slot("catalog@2", 10)}
    state = replace(world.services["catalog"], scale=10, slots=slots)
    world = replace(world, services={"catalog": state})
    app = application(catalog={"scale": 4, "deploy": {"strategy": strategy}})
    made = {"catalog": replace(world.releases["catalog@2"], id=f"catalog@{version}")}
    plan = make_plan(world, app, made, {"catalog"} if cause == "deploy" else None)
    found = submit(world, app, plan, made, Order(cause, "ann", 1.0))
    assert [item.verb for item in plan] == ["replace"]
    assert found.services[0].scale == size
    assert [item.from_release for item in found.rollouts] == ["catalog@1"]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ROLLING_BACK])
def test_a_first_start_that_is_turned_round_is_still_a_first_start(phase: Phase) -> None:
    world = canary_world(phase, strategy="rolling")
    slots: Slots = {"a": slot("catalog@2", 0), "b": None}
    state = replace(world.services["catalog"], slots=slots)
    first = replace(only(world), from_release=None, slot="a")
    world = replace(world, services={"catalog": state}, rollouts={first.id: first})
    made = {"catalog": replace(world.releases["catalog@2"], id="catalog@3")}
    (step,) = make_plan(world, application(catalog={"scale": 2}), made, {"catalog"})
    assert step.verb == "start"


def test_nothing_goes_back_to_what_spoke_bytes() -> None:
    world = running(application(web={}))
    before = application(web={"protocol": "tcp"}).services["web"]
    old = replace(world.releases["web@1"], id="web@0", spec=before, state="kept")
    world = replace(world, releases={**world.releases, old.id: old})
    with pytest.raises(VoleryError, match=r"web speaks http .* tcp") as refused:
        rollback(world, "web", "web@0", Order("rollback", "ann", 1.0))
    assert refused.value.code is Code.INVALID


@pytest.mark.parametrize(
    ("asked", "begun"),
    [("canary", "rolling"), ("blue-green", "rolling"), ("recreate", "recreate"), (None, "rolling")],
)
def test_what_has_state_never_runs_twice_whatever_is_asked_for(
    asked: str | None, begun: str
) -> None:
    app = application(store={"scale": 2, "protocol": "tcp", "state": {"volume": "d"}})
    world = running(app)
    made = replace(world.releases["store@1"], id="store@2", state="built")
    plan = make_plan(world, app, {"store": made}, {"store"})
    order = Order("deploy", "ann", 1.0, strategy=asked)
    (rollout,) = submit(world, app, plan, {"store": made}, order).rollouts
    assert rollout.strategy == begun


@pytest.mark.parametrize("state", ["failed", "refused", "gone", "new"])
def test_what_is_built_again_has_the_time_limits_of_today(state: Any) -> None:
    world = running(application(catalog={}))
    before = replace(world.releases["catalog@1"], id="catalog@2", state=state, reason="timed out")
    world = replace(world, releases=dict(world.releases) | {before.id: before})
    app = application(catalog={"build_timeout": "20m", "test_timeout": "30m"})
    made = replace(before, spec=app.services["catalog"], state="new", reason="")
    plan = make_plan(world, app, {"catalog": made}, {"catalog"}, force=True)
    order = Order("deploy", "ann", 1.0, force=True)
    (found,) = submit(world, app, plan, {"catalog": made}, order).releases
    assert (found.spec.build_timeout, found.spec.test_timeout) == (1200.0, 1800.0)
    assert found.state == "new" and found.created_at == before.created_at


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("3", "3 may be catalog@3a or catalog@3b"),
        ("4", "catalog@4 was never built"),
        ("5", "catalog@5 is refused"),
        ("6", "no release 6 of catalog"),
    ],
)
def test_why_a_release_cannot_come_back(to: str, said: str) -> None:
    world = running(application(catalog={}))
    states = {"3a": "kept", "3b": "kept", "4": "new", "5": "refused"}
    more = [
        replace(world.releases["catalog@1"], id=f"catalog@{name}", state=state)  # type: ignore[arg-type]
        for name, state in states.items()
    ]
    world = replace(world, releases=dict(world.releases) | {item.id: item for item in more})
    with pytest.raises(VoleryError) as refused:
        rollback(world, "catalog", to, Order("rollback", "ann", 1.0))
    assert refused.value.message == said


@pytest.mark.parametrize(
    ("before", "today", "begun"),
    [
        ("rolling", "recreate", "recreate"),
        ("recreate", "rolling", "recreate"),
        ("canary", "recreate", "recreate"),
        ("canary", "rolling", "blue-green"),
    ],
)
def test_going_back_runs_nothing_twice_that_must_not(before: str, today: str, begun: str) -> None:
    old = application(catalog={"deploy": {"strategy": before}})
    new = application(catalog={"deploy": {"strategy": today}})
    world = running(new, version="2")
    first = replace(running(old).releases["catalog@1"], state="kept")
    world = replace(world, releases=dict(world.releases) | {first.id: first})
    found = rollback(world, "catalog", "catalog@1", Order("rollback", "ann", 1.0))
    assert found.strategy == begun


def test_nothing_goes_back_to_a_release_whose_need_is_gone() -> None:
    def back(importance: str) -> str:
        world = running(application(web={}))
        spec = application(web={"needs": {"menu": {"importance": importance}}}).services["web"]
        old = replace(world.releases["web@1"], id="web@0", spec=spec, state="kept")
        world = replace(world, releases={**world.releases, old.id: old})
        return rollback(world, "web", "web@0", Order("rollback", "ann", 1.0)).to_release

    with pytest.raises(VoleryError, match="web@0 needs menu, which is not there") as refused:
        back("critical")
    assert refused.value.code is Code.CONFLICT
    assert back("degradable") == "web@0", "it can do without"
