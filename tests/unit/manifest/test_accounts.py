"""What a manifest may say about accounts, and which environments are like production."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from volery.model.accounts import Account
from volery.model.application import Application
from volery.model.fields import WRITTEN


def account(**fields: Any) -> Account:
    return Account.model_validate({"hosts": ["a.example"]} | fields, context=WRITTEN)


def test_defaults_are_generous() -> None:
    found = account()
    assert (found.rate, found.size, found.reserve) == (50.0, 100.0, 0.5)


@pytest.mark.parametrize(
    ("rate", "a_second", "burst"),
    [(5, 5.0, 10.0), ("30/m", 0.5, 2.0), ("5000/h", 5000 / 3600, 2 * 5000 / 3600), (0.1, 0.1, 2.0)],
)
def test_rates(rate: Any, a_second: float, burst: float) -> None:
    found = account(rate=rate)
    assert found.rate == pytest.approx(a_second)
    assert found.size == pytest.approx(burst)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"rate": 0}, "greater than 0"),
        ({"rate": "5 a day"}, "must be a number a second, or such as 30/m or 5000/h"),
        ({"rate": "0/h"}, "greater than 0"),
        ({"rate": True}, "valid number"),
        ({"burst": 0}, "greater than or equal to 1"),
        ({"reserve": "100%"}, "less than 1"),
        ({"burst": 1}, "leaves less than one request to a side"),
        ({"rate": 1, "reserve": "90%"}, "leaves less than one request to a side"),
        ({"hosts": []}, "at least 1 item"),
        ({"hosts": ["http://a.example"]}, "must be a host such as api.example.com"),
        ({"hosts": ["a.*.example"]}, "must be a host"),
        ({"hosts": ["a.example\n"]}, "must be a host"),
    ],
)
def test_mistakes(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        account(**fields)


def test_a_burst_of_one_needs_no_reserve() -> None:
    assert account(burst=1, reserve="0%").size == 1


@pytest.mark.parametrize(
    ("name", "said", "found"),
    [
        ("production", None, True),
        ("prod", None, True),
        ("live", None, True),
        ("staging", None, False),
        ("staging", True, True),
        ("production", False, False),
    ],
)
def test_which_environments_are_like_production(name: str, said: bool | None, found: bool) -> None:
    environment = {} if said is None else {"production": said}
    application = Application.model_validate(
        {"app": "a", "services": {"s": {"run": "x"}}, "environments": {name: environment}}
    )
    assert application.is_production(name) is found


def test_mistakes_have_a_place(mistakes: Callable[..., list[str]]) -> None:
    found = mistakes(
        """\
        app: shop
        accounts:
          pager: {hosts: [api.example.com], rate: 30/m}
          other: {hosts: [API.example.com], burst: 1}
          third: {hosts: ["*.example.com", Api.example.com]}
        services: {a: {run: sh}}
        """
    )
    assert found == [
        "4:3: accounts.other: a burst of 1 with a reserve of 50% leaves less than one request to "
        "a side; make the burst larger, or reserve: 0%",
        "5:36: accounts.third.hosts[1]: 'api.example.com' is also in accounts.pager: it counts for "
        "one",
    ]
