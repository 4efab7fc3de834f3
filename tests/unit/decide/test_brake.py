"""What automation notes of itself, and when it stands still."""

from __future__ import annotations

from dataclasses import replace

from volery.decide.brake import expire, pull, release, stop
from volery.decide.guard import braked, noted
from volery.model.budget import BrakeLimits
from volery.model.guard import EVERYTHING, Action, Brake, GuardState


def heal(service: str = "catalog", at: float = 100.0, *, helped: bool = False) -> Action:
    return Action("heal", service, at, helped, "replaced catalog-1, it ended again")


def test_only_what_did_not_help_is_kept() -> None:
    state = noted(noted(GuardState(), heal(helped=True)), heal())
    assert [action.helped for action in state.failures] == [False]


def test_what_is_kept_is_bounded() -> None:
    state = GuardState()
    for at in range(1000):
        state = noted(state, heal(at=float(at)))
    assert len(state.failures) == 200
    assert state.failures[-1].at == 999.0


def test_nothing_stands_still_unless_braked() -> None:
    assert braked(GuardState(), "catalog") == ""


def test_a_brake_stops_its_own_scope() -> None:
    state = replace(GuardState(), brakes=(Brake("catalog", 1.0, 2.0, "three heals failed"),))
    assert braked(state, "catalog") == "three heals failed"
    assert braked(state, "shop") == ""


def test_a_brake_on_everything_stops_every_service() -> None:
    state = replace(GuardState(), brakes=(Brake(EVERYTHING, 1.0, 2.0, "the machine"),))
    assert braked(state, "shop") == "the machine"


LIMITS = BrakeLimits(failures=3, within=60.0, services=3, hold=600.0)


def failed(*services: str, at: float = 100.0) -> GuardState:
    state = GuardState()
    for service in services:
        state = noted(state, heal(service, at))
    return state


def test_enough_failures_within_the_window_brake_their_service() -> None:
    assert pull(failed("catalog", "catalog"), LIMITS, 101.0)[1] == []
    state, (brake,) = pull(failed("catalog", "catalog", "catalog"), LIMITS, 101.0)
    assert (brake.scope, brake.until) == ("catalog", 701.0)
    assert "3 automatic actions did not help" in braked(state, "catalog")
    assert pull(state, LIMITS, 102.0)[1] == [], "once"
    assert pull(failed("catalog", "catalog", "catalog"), LIMITS, 161.0)[1] == [], "too long ago"


def test_failures_of_several_services_brake_everything() -> None:
    state, (brake,) = pull(failed("a", "b", "c"), LIMITS, 101.0)
    assert brake.scope == EVERYTHING and "a, b, c" in braked(state, "shop")


def test_one_failure_that_is_the_machine_s_brakes_everything() -> None:
    state = noted(GuardState(), replace(heal(), machine=True))
    assert pull(state, LIMITS, 101.0)[1][0].scope == EVERYTHING


def test_a_brake_is_a_lease() -> None:
    state, _ = pull(failed("catalog", "catalog", "catalog"), LIMITS, 101.0)
    assert expire(state, 700.0) == (state, [])
    later, gone = expire(state, 701.0)
    assert [item.scope for item in gone] == ["catalog"]
    assert later == GuardState(), "its failures are forgotten: automation begins anew"


def test_a_clock_set_back_makes_no_brake_longer() -> None:
    state, _ = pull(failed("catalog", "catalog", "catalog", at=9000.0), LIMITS, 9001.0)
    (brake,) = expire(state, 50.0)[0].brakes
    assert (brake.since, brake.until) == (50.0, 650.0)


def test_releasing_everything_releases_each() -> None:
    state = stop(stop(GuardState(), Brake("a", 1.0, 9.0, "by hand")), Brake("a", 2.0, 9.0, "again"))
    assert [item.because for item in state.brakes] == ["again"]
    assert release(state, frozenset({"b"})) == (state, [])
    assert release(state, frozenset({"a"}))[0].brakes == ()
