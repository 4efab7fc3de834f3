"""What is tried again, how long is waited, and what Retry-After means."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.calls.exchange import NoReply, Reply, Request
from volery.calls.retry import MOST_SECONDS, again, back_off, is_safe, retry_after, wanted_rest

NOW = 1_800_000_000.0
AWAY = NoReply("connection refused")
CUT = NoReply("reset", reached=True)
LATE = NoReply("no answer", reached=True, late=True)


def request(method: str = "POST", key: bool = False, tries: int = 3) -> Request:
    headers = {"Idempotency-Key": '"1"'} if key else {}
    return Request(method, "http://a.example/", 1, headers=headers, tries=tries)


def reply(status: int) -> Reply:
    return Reply(status, {}, b"", True)


@pytest.mark.parametrize("safe", [request("GET"), request("PUT"), request(key=True)])
def test_what_is_safe_to_say_twice(safe: Request) -> None:
    assert is_safe(safe)
    for outcome in (AWAY, CUT, reply(429), reply(502), reply(503), reply(504)):
        assert again(safe, outcome, 1) and again(safe, outcome, 2)
        assert not again(safe, outcome, 3)
    for outcome in (LATE, reply(200), reply(302), reply(404), reply(500)):
        assert not again(safe, outcome, 1)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_may_have_been_done_is_not_done_twice(method: str) -> None:
    unsafe = request(method)
    assert again(unsafe, AWAY, 1)
    for outcome in (CUT, LATE, reply(429), reply(503)):
        assert not again(unsafe, outcome, 1)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_are_capped_and_jittered_in_full(tried: int, chance: float) -> None:
    assert 0 <= back_off(tried, chance) <= MOST_SECONDS
    assert back_off(tried, 0.0) == 0
    assert back_off(tried, 1.0) <= back_off(tried + 1, 1.0)


def test_retry_after() -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)
    past = format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True)
    assert retry_after({"retry-after": " 30 "}, NOW) == 30
    assert retry_after({"retry-after": date}, NOW) == 90
    assert retry_after({"retry-after": "9" * 400}, NOW) == 999_999_999
    for nonsense in (past, "soon", "-5", "", "9" * 400 + "x"):
        assert retry_after({"retry-after": nonsense}, NOW) == 0
    assert retry_after({}, NOW) == 0
    assert wanted_rest(503, {"retry-after": "7"}, NOW) == 7
    assert wanted_rest(200, {"retry-after": "7"}, NOW) == 0


@given(st.text())
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert retry_after({"retry-after": text}, NOW) >= 0
