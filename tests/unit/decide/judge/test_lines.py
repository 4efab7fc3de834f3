"""What a person reads: numbers short and right, one line for each metric."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from unit.decide.judge.traffic import Release, known, ticks

from volery.decide.judge import Policy, begin, in_force, judge, look, step
from volery.decide.judge.lines import lines_of, milliseconds, odds, percent
from volery.decide.judge.policy import level_name, policy_of
from volery.model.application import SteadyState
from volery.model.deploy import Deploy
from volery.model.evidence import Arm, floor_ms


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.041, "4.1 %"), (0.0003, "0.03 %"), (0.5, "50 %"), (1, "100 %"), (1e-7, "0 %")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1:1"), (3.24, "3.2:1"), (3211, "3,200:1"), (57, "57:1"), (2e7, "over 1,000,000:1")],
)
def test_odds(value: float, text: str) -> None:
    assert odds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(257.2, "257 ms"), (3.41, "3.4 ms"), (1230, "1.2 s"), (61000, "61 s")]
)
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("level", "name"), [(0.5, "p50"), (0.75, "p75"), (0.99, "p99"), (0.999, "p999")]
)
def test_level_names(level: float, name: str) -> None:
    assert level_name(level) == name


def test_a_line_for_each_metric_and_each_promise() -> None:
    promise = SteadyState.model_validate({"errors": "< 1%", "latency": {"p99": "< 300ms"}})
    policy = policy_of(promise, Deploy(), same_age=True)
    state = begin(policy, known())
    for arms in islice(ticks(1, 20, 180, Release(errors=0.05)), 20):
        state = look(policy, state, *arms, 1.0)
    lines = {line.metric: line for line in lines_of(policy, state)}
    levels = ["p50", "p75", "p90", "p95", "p99", "p999"]
    promises = ["errors promise", "p99 promise"]
    assert list(lines) == ["errors", *levels, "exits", "saturation", "probes", *promises]
    errors = lines["errors"]
    assert errors.text.startswith("errors ") and " against " in errors.text
    assert (errors.n, errors.n_control, errors.state) == (400, 3600, "bad")
    assert errors.value is not None and 0.02 < errors.value < 0.1
    p99 = lines["p99"]
    assert p99.value is not None and p99.control is not None and p99.limit is not None
    assert p99.value < p99.limit and p99.needed == pytest.approx(20)


def test_the_limit_of_latency_is_the_one_that_is_decided_by_also_while_a_release_is_cold() -> None:
    promise = SteadyState.model_validate({"errors": "< 1%", "latency": {"p99": "< 300ms"}})
    policy = policy_of(promise, Deploy(warm_up=20.0), same_age=False)
    limits = {}
    for age in (0.0, 30.0, 1000.0):
        state = replace(begin(policy, known()), age=age)
        limits[age] = {line.metric: line.limit or 0.0 for line in lines_of(policy, state)}
    edge = state.levels["p50"].edge
    assert limits[1000.0]["p50"] == floor_ms(edge + 1)
    assert limits[1000.0]["p99 promise"] == 300
    for metric in ("p50", "p999", "p99 promise"):
        young, older, old = (limits[age][metric] for age in limits)
        assert young / old == pytest.approx(2**1.25), "to whole buckets"
        assert young > older > old
    assert limits[0.0]["errors promise"] == pytest.approx(0.01 + 0.03)


def test_nothing_seen_is_missing() -> None:
    policy = Policy()
    lines = lines_of(policy, begin(policy, known()))
    assert {line.state for line in lines} == {"missing"}
    assert lines[0].text == "errors: nothing seen yet"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            Arm(1, 1, {}, 1.0),
            "the new release fails its requests: 100 % of 6 failed, and 0 % of the old one's",
        ),
        (
            Arm(1, 0, {}, 1.0, exits=1, again=1),
            "the new release's instances crash: 3 exits in 3 s of running,"
            " against 0 of the old one's",
        ),
    ],
)
def test_an_alarm_tells_what_raised_it_and_not_what_was_before_or_is_not_counted_yet(
    bad: Arm, reason: str
) -> None:
    policy = Policy()
    state = begin(policy, known(release=Release(errors=0.01)), 0.25)
    for _ in range(60):
        state = look(policy, state, Arm(1, 0, {43: 1}, 1.0), Arm(100, 0, {43: 100}, 5.0), 1.0)
    state = look(policy, step(state, 0.5), bad, Arm(100, 0, {43: 100}, 5.0), 1.0)
    state = in_force(state)
    for second in range(10):
        said = judge(policy, state, 0.25, 0.5, second)
        if said.verdict == "abort":
            break
        state = look(policy, state, bad, Arm(100, 0, {43: 100}, 5.0), 1.0)
    assert said.reason == reason
