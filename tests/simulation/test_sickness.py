"""Seeded histories of instances that fall ill; see `simulation.sickness`.

A failing seed prints itself; `simulation.room.histories` says how many there are.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.room import batches, first_violation
from simulation.sickness import Sickness, play
from volery.control import healing as driving
from volery.decide import healing
from volery.decide.healing import Choice

PLANTED_SEEDS = 40


@pytest.mark.parametrize("seeds", batches(5, 10))
def test_every_history_heals_one_at_a_time_and_to_the_end(seeds: range) -> None:
    for seed in seeds:
        violation = play(seed)
        assert violation is None, violation


def _no_excuse(*_: object) -> str:
    """The planted bug: callers are blamed for a need that is down."""
    return ""


def _all_at_once(world: object, service: object, found: object, now: object) -> Choice:
    """The planted bug: whatever is found is mended at once."""
    del world, service, now
    return Choice(found[0]) if found else Choice()  # type: ignore[index]


PLANTED: list[tuple[object, str, Callable[..., object]]] = [
    (driving.Healer, "_excuse", _no_excuse),
    (healing, "choose", _all_at_once),
]


@pytest.mark.parametrize(("where", "name", "bug"), PLANTED, ids=["no excuse", "all at once"])
def test_a_planted_bug_is_caught(
    where: object, name: str, bug: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, bug)
    caught = first_violation(Sickness, range(PLANTED_SEEDS))
    assert caught is not None
    print(f"caught: {caught.splitlines()[0]}")
