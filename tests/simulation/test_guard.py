"""The guard's promises over many histories, counted from outside; planted bugs are caught."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import pytest

from simulation.guarded import GuardedHistory, play
from simulation.room import batches, first_violation
from volery.control import guarding
from volery.decide import guard
from volery.decide.group import Operation
from volery.decide.guard import Ruling
from volery.decide.world import World

PLANTED_SEEDS = 60


@pytest.mark.parametrize("seeds", batches(5, 10))
def test_the_guard_keeps_its_promises_and_all_converges(seeds: range) -> None:
    for seed in seeds:
        violation = play(seed)
        assert violation is None, violation


def test_the_histories_make_somebody_wait() -> None:
    """Otherwise they would show nothing."""
    waits = 0
    for seed in range(20):
        history = GuardedHistory(seed)
        history.play()
        waits += sum(e.kind == "guard.waits" for e in history.memory.events(limit=10**6))
        if waits > 20:
            return
    raise AssertionError(f"only {waits} waited")


def _let_all_pass(
    world: World, asked: Sequence[Operation], now: float, age: Callable[[Hashable], float]
) -> Ruling:
    """The planted bug: the guard is bypassed."""
    del now, age
    return Ruling(tuple(asked), world.guard)


def _nobody_is_disturbed(*_: object) -> tuple[()]:
    """The planted bug: the guard forgets at every look whom it let go."""
    return ()


PLANTED: list[tuple[object, str, Callable[..., object]]] = [
    (guarding, "admit", _let_all_pass),
    (guard, "_still_disturbed", _nobody_is_disturbed),
]


@pytest.mark.parametrize(
    ("where", "name", "bug"), PLANTED, ids=["bypassed", "forgets the disturbed"]
)
def test_a_planted_bug_is_caught(
    where: object, name: str, bug: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, bug)
    caught = first_violation(GuardedHistory, range(PLANTED_SEEDS))
    assert caught is not None
    print(f"caught: {caught.splitlines()[0]}")
