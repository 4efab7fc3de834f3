"""Manifest x what runs -> plan, as text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, running

from volery.decide.gateway import gateway_changes
from volery.decide.order import find_cycle, start_order, waits_for
from volery.decide.plan import make_plan
from volery.decide.world import World
from volery.model.application import Application, Gateway
from volery.model.errors import Code, VoleryError
from volery.model.state import Release, Rollout

SHOP = application(
    storefront={"needs": ["catalog", "cart"]}, catalog={"needs": ["db"], "scale": 2}, cart={}, db={}
)


def made(name: str, version: str = "1", app: Application = SHOP) -> Release:
    return Release(f"{name}@{version}", name, version, app.services[name], 0.0)


SAME = {name: made(name) for name in SHOP.services}


def lines(world: World, releases: dict[str, Release], only: set[str] | None = None) -> list[str]:
    return [str(step) for step in make_plan(world, SHOP, releases, only)]


def test_a_first_up_starts_everything_needs_first() -> None:
    assert lines(World(), SAME) == [
        "[1] start cart: cart@1, it does not run yet",
        "[1] start db: db@1, it does not run yet",
        "[2] start catalog: catalog@1, it does not run yet",
        "[3] start storefront: storefront@1, it does not run yet",
    ]


def test_nothing_to_do_is_said_so() -> None:
    plan = make_plan(running(SHOP), SHOP, SAME)
    assert {step.verb for step in plan} == {"keep"}


def test_a_new_release_replaces_and_says_whom_it_touches() -> None:
    steps = make_plan(running(SHOP), SHOP, SAME | {"catalog": made("catalog", "2")}, {"catalog"})
    assert [str(step) for step in steps] == [
        "[2] replace catalog: catalog@1 -> catalog@2 (rolling), its source changed"
    ]
    assert steps[0].blast_radius == "callers storefront; 2 instances"


@pytest.mark.parametrize(
    ("block", "gap"),
    [
        (
            {"state": {"volume": "data"}},
            "a gap: the only instance stops before its successor starts, the volume has one writer",
        ),
        ({"state": {"volume": "data"}, "scale": 2}, ""),
        (
            {"deploy": {"strategy": "recreate"}, "scale": 2},
            "a gap: every old instance stops before a new one starts",
        ),
        ({}, ""),
    ],
)
def test_a_gap_is_said_before_it_comes(block: dict[str, Any], gap: str) -> None:
    app = application(store=block)
    (step,) = make_plan(running(app), app, {"store": made("store", "2", app)})
    assert step.verb == "replace"
    assert "; ".join(step.blast_radius.split("; ")[2:]) == gap


def test_what_differs_is_named() -> None:
    world = running(SHOP)
    old = world.releases["catalog@1"]
    spec = old.spec.model_copy(update={"env": {"A": "1"}})
    new = replace(old, id="catalog@2", spec=spec)
    (step,) = make_plan(world, SHOP, {"catalog": new}, {"catalog"})
    assert step.because == "its env changed"


@pytest.mark.parametrize(
    ("artifact", "block", "says"),
    [
        ("1", {"env": {"A": "1"}, "floor": 1, "team": "web"}, "its team, env and floor changed"),
        ("1", {"floor": 1}, "its secrets and floor changed"),
        ("1", {}, "its secrets changed"),
        ("2", {"floor": 1, "source": "elsewhere"}, "its source and floor changed"),
        ("2", {"build": "make"}, "its build changed"),
    ],
)
def test_all_that_differs_is_named(artifact: str, block: dict[str, Any], says: str) -> None:
    app, world = application(web=block), running(application(web={}))
    old = world.releases["web@1"]
    spec = app.services["web"]
    new = replace(old, id="web@2", spec=spec, artifact=old.artifact if artifact == "1" else "2")
    (step,) = make_plan(world, app, {"web": new}, {"web"})
    assert step.because == says


@pytest.mark.parametrize(("before", "after"), [("http", "tcp"), ("tcp", "grpc")])
def test_bytes_do_not_become_requests_while_it_runs(before: str, after: str) -> None:
    old, new = application(web={"protocol": before}), application(web={"protocol": after})
    releases = {"web": made("web", "2", new)}
    with pytest.raises(VoleryError, match=f"web speaks {before} .* {after}") as refused:
        make_plan(running(old), new, releases, {"web"})
    assert refused.value.code is Code.INVALID and "another name" in refused.value.hint
    assert make_plan(running(old, {"web": 0}), new, releases, {"web"})[0].verb == "start"


def test_a_first_start_in_the_wrong_protocol_can_be_mended() -> None:
    old, new = application(web={}), application(web={"protocol": "tcp"})
    first = Rollout(*("web-r1", "web", "web@1", "rolling", "a", "web-r1", 0.0, 0.0))
    world = replace(running(old), rollouts={first.id: first})
    (step,) = make_plan(world, new, {"web": made("web", "2", new)}, {"web"})
    assert step.verb == "replace"


def test_requests_of_another_kind_are_a_release_like_any_other() -> None:
    old, new = application(web={}), application(web={"protocol": "http2"})
    (step,) = make_plan(running(old), new, {"web": made("web", "2", new)}, {"web"})
    assert (step.verb, step.because) == ("replace", "its source and protocol changed")


def test_settings_that_make_no_release_are_named() -> None:
    app = application(web={"floor": 1, "deploy": {"strategy": "canary"}})
    (step,) = make_plan(running(application(web={})), app, {"web": made("web", app=app)})
    assert (step.verb, step.because) == ("configure", "its deploy and floor changed")


def test_up_brings_back_the_manifests_scale_and_removes_what_is_not_in_it() -> None:
    bigger = application(old={}, **{name: {} for name in ("storefront", "cart", "db")})
    world = running(bigger, {"cart": 3})
    smaller = application(storefront={}, cart={}, db={})
    plan = make_plan(world, smaller, {name: made(name, app=smaller) for name in smaller.services})
    assert [str(step) for step in plan if step.verb != "keep"] == [
        "[1] scale cart: cart@1, 3 -> 1 instances",
        "[2] remove old, it is not in the manifest any more",
    ]


def test_order_of_needs() -> None:
    assert start_order(SHOP.services) == [["cart", "db"], ["catalog"], ["storefront"]]
    assert waits_for("storefront", SHOP.services, {"db", "cart"}) == ["cart", "db"]


def test_a_degradable_edge_does_not_order() -> None:
    circle = application(a={"needs": ["b"]}, b={"needs": ["a"]})
    assert find_cycle(circle.services) is not None
    loose = application(a={"needs": ["b"]}, b={"needs": {"a": {"importance": "degradable"}}})
    assert start_order(loose.services) == [["b"], ["a"]]


def test_a_replaced_service_says_its_new_size_too() -> None:
    world = running(SHOP, {"catalog": 3})
    plan = make_plan(world, SHOP, SAME | {"catalog": made("catalog", "2")})
    said = {step.service: step.because for step in plan}
    assert said["catalog"] == "its source changed; 3 -> 2 instances"


ROUTES = [{"path": "/api/cart", "service": "cart"}, {"path": "/", "service": "storefront"}]


def with_gateway(**gateway: Any) -> Application:
    return SHOP.model_copy(update={"gateway": Gateway.model_validate(gateway)})


@pytest.mark.parametrize(
    ("gateway", "says"),
    [
        ({"routes": ROUTES}, ()),
        ({"routes": [{"path": "/c", "service": "cart"}, ROUTES[1]]}, ("/api/cart -> /c (cart)",)),
        ({"routes": ROUTES[1:]}, ("/api/cart does not lead to cart any more",)),
        (
            {"routes": [*ROUTES, {"host": "x.org", "path": "/", "service": "db"}]},
            ("x.org/ leads to db",),
        ),
        (
            {"routes": [ROUTES[0] | {"strip": "/api"}, ROUTES[1]], "port": 9000},
            ("127.0.0.1:8080 -> 127.0.0.1:9000", "/api/cart: cart -> cart (strips /api)"),
        ),
    ],
)
def test_changes_of_the_gateway(gateway: dict[str, Any], says: tuple[str, ...]) -> None:
    world = running(with_gateway(routes=ROUTES))
    assert gateway_changes(world, with_gateway(**gateway)) == says
    assert gateway_changes(World(), with_gateway(**gateway)) == ()


@pytest.mark.parametrize("only", [None, {"catalog"}])
def test_what_healing_takes_back_is_refused_already(only: set[str] | None) -> None:
    world = running(SHOP)
    good = replace(made("catalog", "0"), state="kept")
    bad = replace(world.releases["catalog@1"], reason="crashed 3 times in 60s")
    back = Rollout(
        "catalog-r3",
        "catalog",
        good.id,
        "rolling",
        "b",
        "g",
        0,
        0,
        from_release=bad.id,
        cause="heal",
    )
    world = replace(
        world,
        releases=dict(world.releases) | {good.id: good, bad.id: bad},
        rollouts={back.id: back},
    )
    said = "[2] keep catalog: catalog@0, catalog@1 was refused: crashed 3 times in 60s"
    assert said in lines(world, SAME, only)
    forced = make_plan(world, SHOP, SAME, {"catalog"}, force=True)
    assert [str(step) for step in forced] == [
        "[2] replace catalog: catalog@0 -> catalog@1, catalog-r3 to catalog@0 is under way"
    ]
