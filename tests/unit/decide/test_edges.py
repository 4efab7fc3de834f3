from __future__ import annotations

import pytest

from volery.decide.edges import EdgeState, by_caller, looked
from volery.model.evidence import Counters

FINE, BAD, SO_SO, FEW = Counters(20, 0), Counters(20, 15), Counters(20, 5), Counters(2, 2)


def after(*looks: Counters | None, away: bool = False) -> str:
    state = EdgeState("front", "web")
    for seen in looks:
        state = looked(state, seen, away)
    return state.why


@pytest.mark.parametrize(
    ("looks", "why"),
    [
        ((FINE, FINE), ""),
        ((BAD,), ""),
        ((BAD, BAD), "75% of 20 calls failed"),
        ((BAD, FINE, BAD, FINE), ""),
        ((BAD, SO_SO, BAD), "75% of 20 calls failed"),
        ((FEW, FEW, FEW), ""),
        ((BAD, BAD, SO_SO, FEW, None), "75% of 20 calls failed"),
        ((BAD, BAD, FINE), "75% of 20 calls failed"),
        ((BAD, BAD, FINE, FINE), ""),
    ],
)
def test_an_edge_is_unavailable_when_most_calls_fail_for_a_while(
    looks: tuple[Counters | None, ...], why: str
) -> None:
    assert after(*looks) == why


def test_an_edge_to_nobody_is_unavailable_without_a_call() -> None:
    assert after(None, None, away=True) == "no instance of web takes requests"


def test_the_groups_of_a_caller_are_one() -> None:
    edges = {"front~a~web": Counters(1, 1), "front~b~web": Counters(2, 0), "gateway~web": FINE}
    assert by_caller(edges) == {("front", "web"): Counters(3, 1), ("gateway", "web"): FINE}


def test_users_and_a_service_called_gateway_are_two_callers() -> None:
    found = by_caller({"gateway~web": FINE, "gateway~a~web": BAD, "gateway~b~web": BAD})
    assert found == {("gateway", "web"): FINE, ("service gateway", "web"): Counters(40, 30)}
