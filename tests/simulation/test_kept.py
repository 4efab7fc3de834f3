"""What is kept from one look to the next is what would be worked out anew, in any history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation.replay import HISTORIES
from simulation.room import Room
from volery.decide import world as worlds
from volery.decide.routes import Router, traffic_config
from volery.decide.world import World
from volery.model.ports import TrafficConfig

SEEDS = range(4)

Config = Callable[[Router, World], TrafficConfig]


def _compared(real: Config) -> Config:
    def config(self: Router, world: World) -> TrafficConfig:
        found, fresh = real(self, world), replace(world)
        assert found == traffic_config(fresh, self._edge_port)
        for view in worlds.VIEWS:
            assert getattr(world, view) == getattr(fresh, view)
        return found

    return config


@pytest.mark.parametrize("kind", HISTORIES)
def test_the_wish_and_the_views_of_the_world(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Router, "config", _compared(Router.config))
    history: Callable[[int], Room] = HISTORIES[kind]
    for seed in SEEDS:
        history(seed).play()
