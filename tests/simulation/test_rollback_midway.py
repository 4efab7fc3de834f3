"""Histories in which people roll back whenever they like, also in the middle of a rollout."""

from __future__ import annotations

import pytest

from simulation.history import History
from volery.control.rollouts import record
from volery.decide.reversal import reverse
from volery.decide.submit import Order

BATCHES = [range(first, first + 25) for first in range(100_000, 100_100, 25)]


class Impatient(History):
    """Nobody waits for a rollout to end before going back."""

    def _do(self, act: str, some: list[str], one: str) -> None:
        act = "rollback" if act in ("abort", "restart") else act
        draft = self.controller.draft()
        running = draft.world.rollout_of(one)
        if act != "rollback" or running is None:
            super()._do(act, some, one)
            return
        kept = [r.id for r in draft.world.releases.values() if r.service == one]
        to = self.random.choice([None, *kept])
        service, order = draft.world.services[one], Order("rollback", "sim", draft.now)
        found = reverse(draft.world, service, running, to, order)
        draft.put("service", one, found.service)
        record(draft, running, found.rollout)
        draft.commit()


@pytest.mark.parametrize("seeds", BATCHES)
def test_everything_holds_and_comes_to_rest(seeds: range) -> None:
    for seed in seeds:
        Impatient(seed).play()
