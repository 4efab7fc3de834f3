"""What a manifest means for the judge, and how margins and allowances shrink."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.decide.judge import Policy, policy_of
from volery.decide.judge.policy import (
    cold_shift,
    coldness,
    error_margin,
    limit_edge,
    slow_margin,
    tolerated_shift,
)
from volery.model.application import SteadyState
from volery.model.deploy import Deploy
from volery.model.evidence import bucket, floor_ms


def test_a_manifest_without_promises_is_judged_all_the_same() -> None:
    policy = policy_of(None, Deploy(), same_age=True)
    assert (policy.error_limit, dict(policy.latency_limits)) == (None, {})
    assert (policy.same_age, policy.warm_up_seconds) == (True, 0)


def test_promises_come_in_plain_units() -> None:
    promise = SteadyState.model_validate({"errors": "< 1%", "latency": {"p99": "< 300ms"}})
    policy = policy_of(promise, Deploy(warm_up=30.0), same_age=False)
    assert policy.error_limit == pytest.approx(0.01)
    assert policy.latency_limits == {"p99": pytest.approx(300)}
    assert policy.warm_up_seconds == 30


@given(st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_a_larger_step_must_rule_out_more(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert error_margin(Policy(), high) <= error_margin(Policy(), low) <= 0.5
    assert slow_margin(Policy(), high) <= slow_margin(Policy(), low) <= 0.5


def test_the_allowance_halves_and_ends() -> None:
    policy = Policy(warm_up_seconds=20.0)
    assert coldness(policy, 0) == 1
    assert coldness(policy, 20) == pytest.approx(0.5)
    assert coldness(policy, 120) == 0
    assert cold_shift(policy, 1.0) == 10 and cold_shift(policy, 0.04) == 0
    assert coldness(Policy(), 0) == 0


@given(st.floats(0.05, 60_000))
def test_tolerated_is_a_bucket_or_half_a_millisecond(ms: float) -> None:
    edge = bucket(ms)
    shift = tolerated_shift(Policy(), edge)
    assert shift >= 1
    assert floor_ms(edge + shift) >= min(floor_ms(edge + 1), floor_ms(edge) + 0.5) - 1e-9
    assert shift == 1 or floor_ms(edge + shift - 1) < floor_ms(edge) + 0.5


@given(st.floats(0.01, 1e6))
def test_no_request_below_a_limit_counts_as_beyond_it(limit: float) -> None:
    assert floor_ms(limit_edge(limit)) >= limit * (1 - 1e-6)
    assert floor_ms(limit_edge(limit) - 1) < limit
