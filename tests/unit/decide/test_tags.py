"""What came through the canary of a caller goes to one's own where that bounds what it gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.decide.worlds import application, running

from volery.decide.routes import Router, traffic_config
from volery.decide.tags import are_welcome, steered
from volery.decide.world import World
from volery.model.ports import SYNTHETIC_CALLER
from volery.model.state import Phase, Rollout, Slot, Track

CHAIN: dict[str, Any] = {"web": {"needs": ["shop"]}, "shop": {"needs": ["catalog"]}, "catalog": {}}


def releasing(
    services: dict[str, Any], groups: dict[str, str], **shares: tuple[float, float]
) -> World:
    """Canaries in slot b: (weight, mirror) of each; those in no group are a group of their own."""
    found = running(application(**services))
    states, rollouts = dict(found.services), {}
    for name, (weight, mirror) in shares.items():
        old = Slot(f"{name}@1", Track.STABLE, 1, 100 - weight)
        canary = Slot(f"{name}@1", Track.CANARY, 1, weight, mirror)
        states[name] = replace(states[name], slots={"a": old, "b": canary})
        rollout = Rollout(
            id=f"{name}-r1",
            service=name,
            from_release=f"{name}@1",
            to_release=f"{name}@1",
            strategy="canary",
            cause="deploy",
            slot="b",
            group=groups.get(name, name),
            created_at=0.0,
            since=0.0,
            phase=Phase.ANALYSING,
        )
        rollouts[rollout.id] = rollout
    return replace(found, services=states, rollouts=rollouts)


ONE = {"web": "one", "shop": "one", "catalog": "one"}


@pytest.mark.parametrize(
    ("groups", "shares", "welcome", "comes"),
    [
        ({}, {"catalog": (1, 0)}, True, False),
        ({}, {"catalog": (1, 0), "shop": (1, 0)}, True, True),
        ({}, {"catalog": (1, 0), "shop": (50, 0)}, False, False),
        ({}, {"catalog": (1, 0), "shop": (0, 10)}, False, False),
        ({}, {"catalog": (10, 0), "shop": (0, 10)}, True, True),
        ({}, {"catalog": (1, 0), "shop": (0, 0)}, True, False),
        ({}, {"catalog": (1, 0), "web": (50, 0)}, False, False),
        ({}, {"catalog": (1, 0), "web": (50, 0), "shop": (1, 0)}, False, False),
        ({}, {"shop": (1, 0), "catalog": (50, 0)}, True, True),
        (ONE, {"catalog": (1, 0), "shop": (50, 0)}, True, True),
        (ONE, {"catalog": (1, 0), "web": (50, 0)}, True, True),
        ({"web": "one", "catalog": "one"}, {"catalog": (1, 0), "shop": (50, 0)}, False, False),
        (ONE, {"catalog": (0, 10), "shop": (50, 0)}, False, False),
        (ONE, {"catalog": (0, 10), "shop": (0, 10)}, False, False),
    ],
    ids=[
        "nobody calls by a canary",
        "as large as the caller's",
        "smaller than the caller's",
        "the caller's gets more copies",
        "the caller's gets as many copies",
        "the caller's gets nothing",
        "through a service in between",
        "one of two is larger",
        "larger than the caller's",
        "one group",
        "one group through a service in between",
        "one group, but not of that caller",
        "copies are all it gets",
        "copies are all that both get",
    ],
)
def test_a_canary_takes_what_is_tagged_up_to_its_own_share(
    groups: dict[str, str], shares: dict[str, tuple[float, float]], welcome: bool, comes: bool
) -> None:
    world = releasing(CHAIN, groups, **shares)
    service = world.services["catalog"]
    assert (are_welcome(world, service), steered(world, service)) == (welcome, comes)
    split = traffic_config(world, lambda *_: 1).services["catalog"].split
    assert split.canary != "b" or split.tagged == welcome


def test_who_calls_each_other_is_a_caller_too() -> None:
    circle = {"shop": {"needs": ["catalog"]}, "catalog": {"needs": {"shop": {}}}}
    world = releasing(circle, {}, catalog=(5, 0), shop=(5, 0))
    assert all(are_welcome(world, world.services[name]) for name in circle)


def test_no_change_of_a_group_is_missed() -> None:
    router = Router(lambda *_: 1)
    for groups in ({}, ONE, {}):
        world = releasing(CHAIN, groups, catalog=(1, 0), shop=(50, 0))
        assert router.config(world) == traffic_config(world, lambda *_: 1)


def test_our_own_requests_have_a_caller_of_their_own() -> None:
    services = CHAIN | {"catalog": {"deploy": {"synthetic": [{"path": "/"}]}}}
    world = releasing(services, {}, catalog=(1, 0))
    edges = traffic_config(world, lambda *_: 1).edges
    assert [edge.need for edge in edges if edge.caller == SYNTHETIC_CALLER] == ["catalog"]
