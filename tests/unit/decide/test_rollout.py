"""The rollout's table: no history of situations leaves it, and every path can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.decide.worlds import application, running

from volery.decide.rollout import TRANSITIONS, Situation, abort, pause, resume, step
from volery.decide.situation import GateState
from volery.decide.staged import promoted
from volery.decide.strategy import Group, View
from volery.model.evidence import Judgement
from volery.model.ports import BuildStatus
from volery.model.state import ENDED, Phase, Rollout, ServiceState

PROMOTABLE = (Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING)
APP = application(catalog={"scale": 3, "deploy": {"baseline": True, "steps": [0.05, 0.5]}})


def judgement(verdict: str) -> Judgement:
    return Judgement(verdict, f"it says {verdict}")  # type: ignore[arg-type]


def gate(state: str) -> Callable[[str], GateState]:
    return lambda point: GateState(state, f"gate at {point}")  # type: ignore[arg-type]


groups = st.builds(
    Group,
    ready=st.integers(0, 4),
    existing=st.integers(0, 5),
    failure=st.sampled_from([""] * 6 + ["it crashed"]),
)
views = st.builds(
    View,
    now=st.just(1.0),
    old=groups,
    new=groups,
    beside=groups,
    settled=st.booleans(),
    in_phase=st.sampled_from([0.0, 1.0, 100.0]),
    rejected=st.sampled_from([None] * 8 + ["no"]),
)
builds = st.sampled_from(
    [None, BuildStatus("building"), BuildStatus("testing"), BuildStatus("failed", "test", "no")]
)
situations = st.builds(
    Situation,
    view=views,
    build=builds,
    built=st.booleans(),
    turn=st.sampled_from(["wait", "go", "go", "go", "abort"]),
    judged=st.sampled_from([None, *map(judgement, ["promote"] * 4 + ["continue", "abort"])]),
    gate=st.sampled_from([*map(gate, ["open"] * 8 + ["wait", "hold", "abort"])]),
    behind=st.sampled_from(["", "", "", "cart"]),
)
acts = st.sampled_from(["step"] * 12 + ["abort", "pause", "resume", "promote", "promote full"])


def begun(strategy: str, first: bool) -> tuple[Rollout, ServiceState]:
    service = running(APP).services["catalog"]
    if first:
        service = replace(service, slots={"a": None, "b": None})
    rollout = Rollout(
        id="catalog-r1",
        service="catalog",
        from_release=None if first else "catalog@1",
        to_release="catalog@2",
        strategy=strategy,  # type: ignore[arg-type]
        slot="b",
        group="catalog-r1",
        created_at=0.0,
        since=0.0,
    )
    return rollout, service


def act(
    kind: str, rollout: Rollout, service: ServiceState, now: Situation
) -> tuple[Rollout, ServiceState]:
    if kind == "abort" and not rollout.ended and rollout.phase is not Phase.ROLLING_BACK:
        return abort(rollout, service, "by hand", 1.0)
    if kind == "pause" and rollout.phase in (Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING):
        return pause(rollout, 1.0, "by hand"), service
    if kind.startswith("promote") and not rollout.ended and rollout.phase in PROMOTABLE:
        return promoted(rollout, full=kind.endswith("full")), service
    if kind == "resume" and rollout.phase is Phase.PAUSED:
        return resume(rollout, 1.0), service
    return step(rollout, service, now)


@settings(max_examples=300)
@given(
    st.sampled_from(["canary", "rolling", "blue-green", "recreate"]),
    st.booleans(),
    st.lists(st.tuples(acts, situations), max_size=40),
)
def test_no_history_leaves_the_table(
    strategy: str, first: bool, history: list[tuple[str, Situation]]
) -> None:
    rollout, service = begun(strategy, first)
    for kind, now in history:
        after, service = act(kind, rollout, service, now)
        assert after.phase is rollout.phase or after.phase in TRANSITIONS[rollout.phase]
        if rollout.ended:
            assert after == rollout
        rollout = after
        weights = [slot.weight for slot in service.slots.values() if slot]
        assert sum(weights) <= 100
        assert all(slot.count >= 0 for slot in service.slots.values() if slot)


@given(situations)
def test_asking_twice_in_the_same_situation_changes_nothing_more(now: Situation) -> None:
    rollout, service = begun("canary", first=False)
    once = step(rollout, service, now)
    again = step(*once, now)
    assert again[0].phase is once[0].phase or again[0].phase in TRANSITIONS[once[0].phase]


def test_every_phase_can_end() -> None:
    reachable = {phase: set(TRANSITIONS[phase]) for phase in Phase}
    for _ in Phase:
        for phase in Phase:
            reachable[phase] |= {end for middle in reachable[phase] for end in reachable[middle]}
    for phase in Phase:
        assert phase in ENDED or reachable[phase] & ENDED
