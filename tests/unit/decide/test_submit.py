"""Plans and wishes -> documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, canary_world, running

from volery.decide.plan import make_plan
from volery.decide.submit import Order, rollback, submit
from volery.decide.world import World
from volery.model.deploy import Deploy
from volery.model.errors import Code, VoleryError
from volery.model.state import Phase, ServiceState

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
