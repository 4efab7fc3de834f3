"""Histories in which people go back again and again, and an instance of what comes back fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from simulation.adapters import Behaviour
from simulation.history import History
from simulation.room import batches, first_violation, violation_of
from volery.control import rollouts
from volery.decide import submit
from volery.decide.strategy import Group
from volery.decide.submit import Order
from volery.decide.world import World
from volery.model.errors import VoleryError
from volery.model.state import Rollout

PLANTED_SEEDS = 20


class Returning(History):
    """People go back wherever they can, and else deploy; what comes back often has bad luck."""

    def __init__(self, seed: int) -> None:
        self._unlucky: set[str] = set()
        super().__init__(seed)
        self.calm = False
        self.faults_until = 90.0

    def _behaviour(self, release: str) -> Behaviour:
        found = super()._behaviour(release)
        if release not in self._unlucky or self.line.time > self.faults_until:
            return found
        self._unlucky.remove(release)
        return Behaviour(self.random.choice(["crash", "never-ready"]))

    def _policy(self) -> dict[str, object]:
        quick = {"at_most": "5s", "on_inconclusive": "promote", "approve": False}
        return super()._policy() | quick | {"gates": [], "metrics": {}}

    def _do(self, act: str, some: list[str], one: str) -> None:
        draft = self.controller.draft()
        try:
            rollout = submit.rollback(draft.world, one, None, Order("rollback", "sim", draft.now))
        except VoleryError:
            self.version[one] += 1
            self.submit({one}, "deploy")
            return
        draft.put("rollout", rollout.id, rollout)
        draft.commit()
        if self.random.random() < 0.7:
            self.line.after(self.random.uniform(0, 3), lambda: self._spoil(rollout.to_release))

    def _spoil(self, release: str) -> None:
        """The next instance of a release does not come up; one that is there has to start again."""
        self._unlucky.add(release)
        prefix = release.replace("@", "-")
        if there := [key for key in self._alive() if key.startswith(prefix)]:
            self.engine.exit(self.random.choice(there), 137)


def play(seed: int) -> str | None:
    """Play one history; the violation as text, or None."""
    return violation_of(Returning(seed))


@pytest.mark.parametrize("seeds", batches(4, 10))
def test_who_goes_back_gets_there(seeds: range) -> None:
    for seed in seeds:
        violation = play(seed)
        assert violation is None, violation


def _judged_as_new(
    world: World, rollout: Rollout, there: Group, failures: Mapping[str, str]
) -> bool:
    """The planted bug: what comes back is given up because of one instance."""
    del world, rollout, there, failures
    return False


def test_a_return_that_is_given_up_too_soon_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    bug: Callable[..., bool] = _judged_as_new
    monkeypatch.setattr(rollouts, "_may_serve", bug)
    caught = first_violation(Returning, range(PLANTED_SEEDS))
    assert caught is not None and "serve" in caught
    print(f"caught: {caught.splitlines()[0]}")
