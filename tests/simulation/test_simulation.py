"""Thousands of seeded histories of the whole control plane on virtual time.

`VOLERY_HISTORIES` says how many of all kinds; a failing seed prints itself and replays exactly:
`python -m simulation.replay SEED [KIND]` in the tests folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation.history import History, play
from simulation.room import batches, first_violation
from volery.control.watch import Generations
from volery.decide import strategy
from volery.decide.strategy import Moved, View
from volery.model.ports import TrafficStatus
from volery.model.state import Rollout, ServiceState, Slot, other

PLANTED_SEEDS = 60


@pytest.mark.parametrize("seeds", batches(76, 25))
def test_every_history_keeps_the_invariants_and_converges(seeds: range) -> None:
    for seed in seeds:
        violation = play(seed)
        assert violation is None, violation


def test_a_history_replays_exactly() -> None:
    stories = []
    for _ in range(2):
        history = History(7)
        history.play()
        stories.append((history.story, [e.text for e in history.memory.events(limit=10**6)]))
    assert stories[0] == stories[1]


def _remove_before_add(
    rollout: Rollout, service: ServiceState, view: View, old: Slot, new: Slot
) -> Moved:
    """The planted bug: the old group is emptied before the new one is there."""
    if old.count > 0:
        slots = dict(service.slots) | {other(rollout.slot): replace(old, count=0)}
        return Moved(replace(service, slots=slots))
    return _REAL_ROLLING(rollout, service, view, old, new)


_REAL_ROLLING = strategy._rolling


def _not_waiting_for_drain(self: Generations, instance: str, status: TrafficStatus) -> bool:
    """The planted bug: an instance counts as drained as soon as that is wished."""
    del self, instance, status
    return True


PLANTED: list[tuple[object, str, Callable[..., object]]] = [
    (strategy, "_rolling", _remove_before_add),
    (Generations, "drained", _not_waiting_for_drain),
]


@pytest.mark.parametrize(("where", "name", "bug"), PLANTED, ids=["remove before add", "no drain"])
def test_a_planted_bug_is_caught(
    where: object, name: str, bug: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, bug)
    caught = first_violation(History, range(PLANTED_SEEDS))
    assert caught is not None
    print(f"caught: {caught.splitlines()[0]}")
