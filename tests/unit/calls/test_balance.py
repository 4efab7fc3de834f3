"""What holds of an account's limits whoever asks, when, and how often."""

from __future__ import annotations

import math
from dataclasses import astuple

from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from volery.calls.balance import (
    EARNED,
    EARNED_A_SECOND,
    REST_SECONDS_MOST,
    RETRIES_MOST,
    Balance,
    earned,
    full,
    later,
    rested,
    retried,
    taken,
    unknown,
)
from volery.model.accounts import Account

SLACK = 1e-6
RATES = st.floats(0.01, 1000)
PAUSES = st.floats(0, 30)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    """Any that a manifest may hold."""
    burst, reserve = draw(st.floats(1, 500)), draw(st.sampled_from([0.0, 0.1, 0.5, 0.9]))
    try:
        return Account(hosts=("a.example",), rate=draw(RATES), burst=burst, reserve=reserve)
    except ValidationError:
        assume(False)
        raise


def try_to_take(balance: Balance, account: Account, production: bool) -> tuple[Balance, bool]:
    left, wait = taken(balance, account, production)
    assert wait >= 0
    return left, wait == 0


STEPS = st.lists(st.tuples(PAUSES, st.booleans(), st.integers(1, 60)), max_size=40)


@given(accounts(), STEPS, st.booleans())
def test_never_more_than_the_rate_and_the_burst(
    account: Account, steps: list[tuple[float, bool, int]], lost: bool
) -> None:
    """In every window, over all and for tests alone, also if the past was lost."""
    balance = unknown() if lost else full(account)
    now, got = 0.0, list[tuple[float, bool]]()
    for pause, production, wanted in steps:
        now += pause
        balance = later(balance, account, pause)
        for _ in range(wanted):
            balance, done = try_to_take(balance, account, production)
            got += [(now, production)] if done else []
    for share, times in (
        (1.0, [at for at, _ in got]),
        (1 - account.reserve, [at for at, production in got if not production]),
    ):
        rate, burst = share * account.rate, share * account.size
        least = math.inf
        for count, at in enumerate(times):
            least = min(least, count - rate * at)
            assert count + 1 - rate * at - least <= burst + SLACK


@given(accounts(), STEPS)
def test_the_reserve_is_there_whatever_tests_do(
    account: Account, steps: list[tuple[float, bool, int]]
) -> None:
    """Production that keeps within the reserve is never kept waiting, however greedy tests are."""
    balance = full(account)
    most = account.reserve * account.size
    allowed = most
    for pause, _, wanted in steps:
        balance = later(balance, account, pause)
        allowed = min(most, allowed + account.reserve * account.rate * pause)
        for _ in range(wanted):
            balance, _ = try_to_take(balance, account, False)
        for _ in range(int(allowed - SLACK)):
            balance, done = try_to_take(balance, account, True)
            assert done
            allowed -= 1


@given(accounts(), st.booleans(), PAUSES)
def test_after_the_wait_it_is_ones_turn(account: Account, production: bool, rest: float) -> None:
    balance = rested(full(account), rest)
    for _ in range(600):
        balance, wait = taken(balance, account, production)
        if wait:
            break
    assert wait > 0 or account.size * (1 - account.reserve) > 600
    _, again = taken(later(balance, account, wait), account, production)
    assert again <= SLACK


@given(accounts(), st.floats(0, 1e12), st.floats(0, 1e12))
def test_waiting_in_parts_is_waiting(account: Account, first: float, second: float) -> None:
    empty = rested(unknown(), 100)
    parts = later(later(empty, account, first), account, second)
    whole = later(empty, account, first + second)
    for one, other in zip(astuple(parts), astuple(whole), strict=True):
        assert abs(one - other) <= 1e-3 * max(1.0, abs(other))


def test_time_that_goes_back_counts_as_none() -> None:
    account = Account(hosts=("a.example",))
    assert later(rested(unknown(), 9), account, -1e9) == rested(unknown(), 9)


def test_a_server_that_wants_to_be_left_alone() -> None:
    account = Account(hosts=("a.example",))
    balance = rested(rested(full(account), 30), 10)
    for production in (True, False):
        assert taken(balance, account, production)[1] == 30
        assert taken(later(balance, account, 29), account, production)[1] == 1
        assert taken(later(balance, account, 30), account, production)[1] == 0
    assert rested(balance, 1e9).rest == REST_SECONDS_MOST


def test_retries_are_a_share_of_the_calls() -> None:
    for production in (True, False):
        balance, used = full(Account(hosts=("a.example",))), 0
        for _ in range(1000):
            balance = earned(balance, production)
            while (left := retried(balance, production)) is not None:
                balance, used = left, used + 1
        assert RETRIES_MOST <= used <= RETRIES_MOST + EARNED * 1000 + 1


def test_retries_of_tests_are_not_those_of_production() -> None:
    balance = full(Account(hosts=("a.example",)))
    while (left := retried(balance, False)) is not None:
        balance = left
    assert retried(balance, True) is not None
    after = later(balance, Account(hosts=("a.example",)), 1 / EARNED_A_SECOND)
    assert retried(after, False) is not None
