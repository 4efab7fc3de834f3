"""What an account has left: a token bucket, the part of it for tests, retries, and a time to rest.

Pure; seconds come from the caller. The rules that hold whatever happens:

- In any t seconds, at most rate * t + burst requests are let through.
- Of those, environments that are not like production get at most the share outside the reserve, so
  that the reserve is there for production whenever it comes.
- A first try earns `EARNED` of a retry, so retries add at most that share to the load, beside a few
  that come with time for accounts that are seldom asked. Production has a budget of its own.

Terms: *side*, who asks: production or not; *rest*, seconds for which the server wants no request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from volery.model.accounts import Account

EARNED = 0.2
EARNED_A_SECOND = 0.1
RETRIES_MOST = 10.0
REST_SECONDS_MOST = 300.0
"""Longer than that no server keeps us away: it may have meant another century."""


@dataclass(frozen=True)
class Balance:
    """What is left of one account. `whole`: requests; `tests`: of those, for the side that is not
    production; retries of both sides; `rest`: seconds until it may be asked again."""

    whole: float
    tests: float
    retries: float
    tests_retries: float
    rest: float = 0.0


def full(account: Account) -> Balance:
    """One that was never used."""
    return Balance(account.size, _for_tests(account.size, account), RETRIES_MOST, RETRIES_MOST)


def unknown() -> Balance:
    """One whose past is lost: it has to be earned, so that no limit is broken."""
    return Balance(0.0, 0.0, 0.0, 0.0)


def _for_tests(amount: float, account: Account) -> float:
    return amount * (1 - account.reserve)


def later(balance: Balance, account: Account, seconds: float) -> Balance:
    """The same after so many seconds; time that went back counts as none."""
    seconds = max(0.0, seconds)
    gained = account.rate * seconds
    room = _for_tests(account.size, account)
    earned = EARNED_A_SECOND * seconds
    return Balance(
        min(account.size, balance.whole + gained),
        min(room, balance.tests + _for_tests(gained, account)),
        min(RETRIES_MOST, balance.retries + earned),
        min(RETRIES_MOST, balance.tests_retries + earned),
        min(REST_SECONDS_MOST, max(0.0, balance.rest - seconds)),
    )


def taken(balance: Balance, account: Account, production: bool) -> tuple[Balance, float]:
    """One request: what is left and 0; or the same balance and the seconds until one may be due."""
    wait = max(balance.rest, _until(1.0, balance.whole, account.rate))
    if not production:
        share = _for_tests(account.rate, account)
        wait = max(wait, _until(1.0, balance.tests, share))
    if wait > 0:
        return balance, wait
    tests = balance.tests if production else balance.tests - 1
    return replace(balance, whole=balance.whole - 1, tests=tests), 0.0


def _until(wanted: float, there: float, rate: float) -> float:
    return max(0.0, wanted - there) / rate


def earned(balance: Balance, production: bool) -> Balance:
    """With the part of a retry that a first try earns."""
    return _with_retries(balance, production, EARNED)


def retried(balance: Balance, production: bool) -> Balance | None:
    """With one retry less; None if the budget of that side is used up."""
    left = balance.retries if production else balance.tests_retries
    return _with_retries(balance, production, -1.0) if left >= 1 else None


def _with_retries(balance: Balance, production: bool, more: float) -> Balance:
    if production:
        return replace(balance, retries=min(RETRIES_MOST, balance.retries + more))
    return replace(balance, tests_retries=min(RETRIES_MOST, balance.tests_retries + more))


def rested(balance: Balance, seconds: float) -> Balance:
    """Not to be asked for so many seconds; a longer rest that is under way stays."""
    return replace(balance, rest=max(balance.rest, min(seconds, REST_SECONDS_MOST)))
