"""What a need that is down means for its callers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.decide.worlds import application, running

from volery.api.wire import service as shown
from volery.decide.dependence import down, lacks, state_for_want
from volery.decide.world import World


def chain(importance: str = "critical") -> World:
    return running(
        application(
            shop={"needs": {"catalog": {"importance": "critical"}}},
            catalog={"needs": {"store": {"importance": importance}}},
            store={},
        )
    )


def without(world: World, service: str) -> World:
    observed = {
        key: replace(seen, state="unready") if key.startswith(f"{service}-") else seen
        for key, seen in world.observed.items()
    }
    return replace(world, observed=observed)


def test_nobody_lacks_anything_while_all_serve() -> None:
    assert down(chain()) == frozenset()


def test_what_cannot_do_without_is_down_as_well_through_any_chain() -> None:
    assert down(without(chain(), "store")) == {"store", "catalog", "shop"}


def test_what_can_do_without_is_not() -> None:
    world = without(chain("degradable"), "store")
    assert down(world) == {"store"}
    assert shown(world, world.services["catalog"])["state"] == "degraded"
    assert shown(world, world.services["shop"])["state"] == "healthy"


@pytest.mark.parametrize(
    ("importance", "state", "words"),
    [
        ("critical", "down", "(critical)"),
        ("unknown", "down", "not declared"),
        ("degradable", "degraded", "(degradable)"),
    ],
)
def test_how_grave_it_is_says_the_edge(importance: str, state: str, words: str) -> None:
    world = without(chain(importance), "store")
    found = lacks(world.services["catalog"], down(world))
    assert words in found[0].text
    assert state_for_want("healthy", found) == state


def test_it_never_looks_better_than_it_is() -> None:
    world = without(chain("degradable"), "store")
    found = lacks(world.services["catalog"], down(world))
    assert state_for_want("down", found) == "down"
    assert state_for_want("deploying", found) == "deploying"
