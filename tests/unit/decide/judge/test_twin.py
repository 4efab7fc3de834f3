"""The numpy twin says what the judge says, on the same traffic."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from unit.decide.judge.traffic import GOOD, Release, arm, known
from unit.decide.judge.twin import Judges, Past, Tick

from volery.decide.judge import History, Policy, begin, evidence, look
from volery.decide.judge.history import remember
from volery.decide.judge.policy import cold_shift, coldness, tolerated_shift
from volery.decide.judge.state import OF_INSTANCES
from volery.decide.judge.tails import above
from volery.decide.judge.trust import confidence
from volery.model.evidence import Arm

SECONDS = 90
DEAD = Release(errors=1.0)


def column(values: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(values, dtype=float)[:, None]


def seen(policy: Policy, age: float, edges: list[int], canary: Arm, control: Arm) -> Tick:
    """One tick as the twin gets it."""
    shifts = [tolerated_shift(policy, edge) for edge in edges]
    extra = cold_shift(policy, coldness(policy, age))
    at = [e + s + extra for e, s in zip(edges, shifts, strict=True)]
    far = [e + 2 * s for e, s in zip(edges, shifts, strict=True)]
    n, m = float(canary.requests), float(control.requests)
    return Tick(
        column([n] * (1 + len(edges))),
        column([canary.failures, *above(canary.latency, at)]),
        column([canary.failures, *above(canary.latency, far)]),
        column([m] * (1 + len(edges))),
        column([control.failures, *above(control.latency, edges)]),
    )


def both_pasts(history: History) -> tuple[History, Past]:
    """The same minutes of stable traffic, remembered by both. Edges are given."""
    edges, source = list(history.edges.values()), random.Random(7)
    past = Past(list(history.edges), 1)
    history = replace(history, errors=History().errors, slow={}, seconds=0.0, edged_at=1e9)
    for _ in range(130):
        whole = arm(source, 200, Release(errors=0.03))
        failed = [source.randrange(3) for _ in range(whole.failures)]
        parts = [Arm(67 + (index == 0), failed.count(index)) for index in range(3)]
        history = remember(history, [replace(parts[0], latency=whole.latency), *parts[1:]], 1.0)
        slow = above(whole.latency, edges)
        n = [[float(p.requests)] + [float(i == 0) * 200] * len(edges) for i, p in enumerate(parts)]
        k = [[float(p.failures)] + [(i == 0) * s for s in slow] for i, p in enumerate(parts)]
        past.add(np.array(n, dtype=float)[..., None], np.array(k, dtype=float)[..., None])
    return history, past


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("warm_up", [0.0, 20.0])
@pytest.mark.parametrize("release", [GOOD, Release(errors=0.05, slower=1.3), DEAD])
def test_the_twin_is_equal(seed: int, warm_up: float, release: Release) -> None:
    policy = Policy(warm_up_seconds=warm_up)
    history, past = both_pasts(known())
    edges = list(history.edges.values())
    state, twin = begin(policy, history, 0.25), Judges(policy, past)
    twin.step(0.25)
    assert twin.phi[:, 0] == pytest.approx(
        [c.phi for name, c in state.counters.items() if name not in OF_INSTANCES]
    )
    source = random.Random(seed)
    few = [9, 12] if warm_up else [0, 1, 9, 12]
    for second in range(SECONDS):
        canary = arm(source, source.choice(few), release, 0)
        control = arm(source, source.choice([0, 150, 210]), Release(errors=0.02), 0)
        twin.look(seen(policy, second, edges, canary, control))
        state = look(policy, state, canary, control, 1.0)
        assert twin.evidence()[0] == pytest.approx(evidence(state), rel=1e-6)
        assert twin.failing[0] == pytest.approx(state.alarms.failing, abs=1e-9)
        assert twin.limit[0] == pytest.approx(state.alarms.limit)
        assert twin.first[0] == state.alarms.first
        assert twin.missing[0] == pytest.approx(state.alarms.stillborn)
    gating = [c for name, c in state.counters.items() if name not in OF_INSTANCES]
    assert twin.confidence()[0] == pytest.approx(min(confidence(c.trust) for c in gating))
