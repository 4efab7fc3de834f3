"""What `plan` says of a canary: how long its steps take, and what a bad release would cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.decide.worlds import application

from volery.decide import judge
from volery.decide.forecast import (
    EXCESSES,
    Forecast,
    Harm,
    StepForecast,
    forecast,
    shares_at,
)
from volery.decide.judge import History
from volery.model.application import Service
from volery.model.evidence import Arm
from volery.model.units import format_duration


def service(**deploy: Any) -> Service:
    body = {"deploy": {"strategy": "canary", "steps": ["5%", "25%"]} | deploy}
    return application(catalog=body).services["catalog"]


def known(rate: int, failing: float = 0.0, seconds: int = 120) -> History:
    """Minutes of steady traffic on two instances."""
    history = judge.empty()
    half = rate // 2
    for _ in range(seconds):
        part = Arm(half, round(half * failing), {8: rate})
        history = judge.remember(history, [part, Arm(half, round(half * failing))], 1.0)
    return history


def test_without_traffic_nothing_is_promised() -> None:
    found = forecast(service(), judge.empty())
    assert found.rate is None
    assert [one.seconds for one in found.steps] == [None, None]
    assert all(one.seconds is None and one.requests is None for one in found.harms)
    (line,) = found.lines()
    assert "no requests were seen lately" in line and "synthetic" in line


def test_at_todays_traffic_every_step_and_harm_has_a_number() -> None:
    found = forecast(service(), known(200))
    assert found.rate == pytest.approx(200)
    assert [one.weight for one in found.steps] == [0.05, 0.25]
    assert all(one.seconds and one.seconds >= 10 for one in found.steps)
    assert [one.excess for one in found.harms] == list(EXCESSES)
    times = [one.seconds for one in found.harms if one.seconds]
    assert len(times) == 3 and times == sorted(times, reverse=True), "worse is found sooner"
    for one in found.harms:
        assert one.seconds is not None
        assert one.requests == pytest.approx(200 * 0.05 * one.excess * one.seconds)


@pytest.mark.parametrize("minutes", [5, 30, 600])
def test_a_lull_is_no_reason_to_begin_with_more_users(minutes: int) -> None:
    history = known(100)
    for _ in range(minutes * 3):
        history = judge.remember(history, [Arm()], 20.0)
    assert shares_at(service(steps=None), history)[0] == 0.01
    line = forecast(service(steps=None), history).lines()[0]
    assert f"requests/s, as {format_duration(minutes * 60.0)} ago, a good release needs" in line


def test_an_instance_that_was_ill_is_no_reason_to_begin_with_more_users() -> None:
    history = known(200, seconds=600)
    for _ in range(20):
        history = judge.remember(history, [Arm(100, 100, {8: 200}), Arm(100)], 1.0)
    for _ in range(600):
        history = judge.remember(history, [Arm(100, 0, {8: 200}), Arm(100)], 1.0)
    assert shares_at(service(steps=None), history)[0] == 0.01
    worst = forecast(service(steps=None), history).harms[-1]
    assert worst.requests is not None and worst.requests < 40


@settings(max_examples=20)
@given(st.integers(10, 400), st.integers(2, 5))
def test_more_traffic_never_takes_longer(rate: int, times: int) -> None:
    slow, fast = forecast(service(), known(rate)), forecast(service(), known(rate * times))
    for before, after in zip(slow.steps, fast.steps, strict=True):
        assert before.seconds is not None and after.seconds is not None
        assert after.seconds <= before.seconds * 1.01
    for one, other in zip(slow.harms, fast.harms, strict=True):
        assert one.seconds is None or (other.seconds or 0) <= one.seconds * 1.01


def test_a_step_of_everything_is_no_step_to_wait_in() -> None:
    found = forecast(service(steps=["50%", "100%"]), known(100))
    assert [one.weight for one in found.steps] == [0.5]
    nothing = forecast(service(steps=["100%"]), known(100))
    assert nothing.steps == () and nothing.harms == ()


def test_a_service_that_fails_much_already_hides_more() -> None:
    calm, noisy = forecast(service(), known(200)), forecast(service(), known(200, failing=0.1))
    assert (noisy.harms[1].seconds or 1e9) > (calm.harms[1].seconds or 0)


def test_a_step_that_is_too_short_is_told() -> None:
    found = forecast(service(at_most="5s", on_inconclusive="rollback"), known(3))
    assert found.lines()[1] == (
        "a step waits at most 5s (`at_most`), so at 5 % it may be taken back without more"
        " traffic: larger `steps`, a longer `at_most` or `deploy.synthetic` help"
    )
    enough = forecast(service(at_most="10h"), known(300))
    assert not any("at_most" in line for line in enough.lines())


def test_in_words() -> None:
    found = Forecast(
        123.4,
        (StepForecast(0.05, 12.3), StepForecast(0.5, None)),
        (Harm(0.1, 90.0, 1234.5), Harm(0.9, None, None)),
    )
    assert found.lines() == [
        "at 123 requests/s a good release needs: 5 % about 12.3s, 50 % cannot be told",
        "one that fails 10 % more is taken back about 1m30s, after about 1,234 failed requests",
        "one that fails 90 % more is taken back cannot be told, after an unknown number of"
        " failed requests",
    ]


@pytest.mark.parametrize(
    ("rate", "shares"),
    [
        (0, (0.01, 0.05, 0.25, 0.5)),
        (2, (0.5,)),
        (10, (0.25, 0.5)),
        (40, (0.01, 0.05, 0.25, 0.5)),
        (400, (0.01, 0.05, 0.25, 0.5)),
    ],
)
def test_steps_that_nobody_wrote_begin_where_something_can_be_told(
    rate: int, shares: tuple[float, ...]
) -> None:
    found = forecast(service(steps=None), known(rate) if rate else judge.empty())
    assert tuple(one.weight for one in found.steps) == shares
    said = any("would tell too little" in line for line in found.lines())
    assert said == (len(shares) < 4)


def test_written_steps_are_taken_as_they_are_and_ours_make_up_for_traffic() -> None:
    assert shares_at(service(steps=["1%", "100%"]), known(2)) == (0.01,)
    ours = service(steps=None, synthetic=[{"path": "/"}])
    assert shares_at(ours, known(2)) == (0.01, 0.05, 0.25, 0.5)


def test_a_longer_wait_lets_smaller_steps_tell_something() -> None:
    assert shares_at(service(steps=None, at_most="10m"), known(10))[0] == 0.25
    assert shares_at(service(steps=None, at_most="1h"), known(10))[0] == 0.01


def test_the_cost_of_one_that_turns_bad_later_is_the_dearest_steps() -> None:
    (_, some, _) = forecast(service(), known(200)).harms
    assert some.requests and some.most and some.most > some.requests and some.at == 0.25
    assert str(some).endswith(f" (about {some.most:.0f} if it turns bad only at 25 %)")
