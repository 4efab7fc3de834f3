"""Seeded histories of a replicated database: never two primaries, no acknowledged write lost.

A failing seed prints itself; `simulation.room.histories` says how many there are.
"""

from __future__ import annotations

import pytest

from simulation.room import batches, first_violation
from simulation.stateful import StatefulHistory, play
from volery.decide.members import Member
from volery.decide.stateful import failover, handover
from volery.decide.stateful.choice import choose
from volery.decide.stateful.handover import Case, Moved, enter
from volery.model.tenure import Step

PLANTED_SEEDS = 60


@pytest.mark.parametrize("seeds", batches(10, 10))
def test_never_two_primaries_and_no_acknowledged_write_is_lost(seeds: range) -> None:
    for seed in seeds:
        violation = play(seed)
        assert violation is None, violation


def _promote_before_fence(case: Case) -> Moved:
    """The planted bug: nobody waits until the former primary is dead."""
    return Moved(enter(case.handover, Step.CATCH_UP))


def _not_looking_whether_it_is_dead(case: Case) -> Moved:
    """The other half of it: what is not dead is not killed either."""
    found = choose(
        case.world, case.service, case.tenure, case.handover, case.given, case.state.failover
    )
    if found.successor is None:
        return Moved(case.handover)
    changes = {"successor": found.successor.id, "attempt": case.handover.attempt + 1}
    return Moved(enter(case.handover, Step.PROMOTE, **changes))


def test_promoting_before_the_former_primary_is_dead_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "_end", _promote_before_fence)
    monkeypatch.setattr(handover, "_catch_up", _not_looking_whether_it_is_dead)
    caught = first_violation(StatefulHistory, range(PLANTED_SEEDS))
    assert caught is not None and "is a primary beside" in caught
    print(f"caught: {caught.splitlines()[0]}")


def _trusting(*_: object) -> str:
    """The planted bug: a primary that is back without its data is believed."""
    return ""


def test_believing_a_primary_without_its_data_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "_went_back", _trusting)
    caught = first_violation(StatefulHistory, range(36, 36 + PLANTED_SEEDS))  # it is a rare one
    assert caught is not None
    print(f"caught: {caught.splitlines()[0]}")


def test_promoting_one_that_cannot_write_its_volume_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Member, "sound", property(lambda _: True))
    caught = first_violation(StatefulHistory, range(19, PLANTED_SEEDS))
    assert caught is not None and "has had a bad volume" in caught
    print(f"caught: {caught.splitlines()[0]}")
