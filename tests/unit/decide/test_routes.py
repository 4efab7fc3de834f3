"""The wish for the data plane is kept until something that it follows from is another."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from unit.decide.test_stateful import WELL, database
from unit.decide.worlds import canary_world

from volery.decide.routes import Router, traffic_config
from volery.decide.world import World
from volery.model.ports import Answer, Exit, Observation

OTHER: dict[str, Any] = {
    "state": ["starting", "unready", "stopping", "exited"],
    "address": [None, "127.0.0.1:9"],
    "alive": [False],
    "suspect": ["no answer"],
    "hung": [True],
    "unkept": [True],
    "exit": [Exit(1)],
    "exits": [(Exit(1),)],
    "role": [None, "primary", "replica", "syncing"],
    "unsure_since": [0.0, 7.0],
    "volume": ["is gone"],
    "volume_made": [True],
    "commands": [{"key": Answer("yes")}],
    "enforced": [{"memory": "cgroup v2"}],
}
"""Of each field of an observation other values; of what is not named here a number or a word."""
NAMES = [found.name for found in fields(Observation) if found.name != "id"]


def _port(caller: str, slot: str, need: str) -> int:
    return len(caller + slot + need)


def _seen(world: World, identity: str, **changes: Any) -> World:
    changed = replace(world.observed[identity], **changes)
    return replace(world, observed={**world.observed, identity: changed})


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_is_seen_of_an_instance_is_missed(name: str) -> None:
    begin = database(WELL)
    others = OTHER.get(name, ["word" if name == "detail" else 41])
    for identity in begin.observed:
        router = Router(_port)
        for world in (begin, *(_seen(begin, identity, **{name: value}) for value in others), begin):
            assert router.config(world) == traffic_config(world, _port)


def test_each_group_is_spoken_to_in_the_protocol_of_its_release() -> None:
    world = canary_world()
    new = world.releases["catalog@2"]
    spec = new.spec.model_copy(update={"protocol": "http2"})
    world = replace(world, releases={**world.releases, new.id: replace(new, spec=spec)})
    found = traffic_config(world, _port).services["catalog"]
    assert found.protocol == "http"
    assert {slot: group.protocol for slot, group in found.slots.items()} == {
        "a": None,
        "b": "http2",
    }


@pytest.mark.parametrize("name", ["environment", "services", "instances", "releases", "tenures"])
def test_no_document_is_missed(name: str) -> None:
    world, router = database(WELL), Router(_port)
    router.config(world)
    stateless = replace(world.releases["db@1"], spec=world.services["web"].config)
    other: dict[str, Any] = {"environment": None, "releases": {"db@1": stateless}}
    changed = replace(world, **{name: other.get(name, {})})
    assert router.config(changed) == traffic_config(changed, _port) != traffic_config(world, _port)


def test_the_same_wish_is_the_same_object() -> None:
    world, router = database(WELL), Router(_port)
    wish = router.config(world)
    assert router.config(_seen(world, "db-1", memory=5, position=99)) is wish
    more = dict(world.instances)
    assert router.config(replace(world, instances=more | {"db-0": more["db-0"]})) is wish
    touched = replace(more["db-0"], restarts=3)
    assert router.config(replace(world, instances=more | {"db-0": touched})) is wish


@pytest.mark.parametrize(("instance", "rests"), [("db-0", False), ("db-1", True)])
def test_a_suspect_rests_unless_it_is_the_primary(instance: str, rests: bool) -> None:
    world = _seen(database(WELL), instance, suspect="no answer")
    config = traffic_config(world, _port)
    found = {
        endpoint.instance: endpoint.draining
        for service in config.services.values()
        for group in service.slots.values()
        for endpoint in group.endpoints
    }
    assert found[instance] is rests
