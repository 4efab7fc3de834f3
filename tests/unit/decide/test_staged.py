"""A canary goes forward stage by stage, and only for a reason; blue-green is the same machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from unit.decide.worlds import application, running

from volery.decide.rollout import Situation, abort, pause, resume, step
from volery.decide.situation import GateState, no_gates
from volery.decide.staged import UNOPPOSED, promoted
from volery.decide.strategy import Group, View
from volery.model.evidence import Judgement, Line, Verdict
from volery.model.state import BASELINE, Phase, Rollout, ServiceState, Slot, SlotName, Track

SCALE = 4


@dataclass
class Play:
    """A rollout beside an old group whose world obeys at once: what is asked for is ready."""

    rollout: Rollout
    service: ServiceState
    verdict: Verdict = "continue"
    suspicious: bool = False
    by_comparison: bool = False
    looked: bool = True
    in_phase: float = 0.0
    unserved: float = 0.0
    """For how long nothing of the old release serves."""
    gate: Callable[[str], GateState] = no_gates
    behind: str = ""
    beside: Group | None = None
    """What is there of the baseline, if it is not what is asked for."""

    def _ready(self, name: SlotName) -> Group:
        slot = self.service.slots.get(name)
        if slot is None:
            return Group()
        down = self.unserved > 0 and name != "b"
        return Group(ready=0 if down else slot.count, existing=slot.count)

    def look(self) -> Rollout:
        """One step."""
        view = View(
            now=0.0,
            old=self._ready("a"),
            new=self._ready("b"),
            beside=self.beside or self._ready(BASELINE),
            settled=True,
            in_phase=self.in_phase,
            unserved=self.unserved,
        )
        line = Line("errors", "undecided", "errors 1 % against 1 %")
        said = f"it says {self.verdict}"
        judged = Judgement(
            self.verdict,
            said,
            (line,),
            suspicious=self.suspicious,
            by_comparison=self.by_comparison,
        )
        now = Situation(
            view,
            None,
            True,
            "go",
            judged=judged if self.looked else None,
            gate=self.gate,
            behind=self.behind,
        )
        self.rollout, self.service = step(self.rollout, self.service, now)
        return self.rollout

    def until(self, *phases: Phase, looks: int = 30) -> Rollout:
        for _ in range(looks):
            if self.look().phase in phases:
                return self.rollout
        raise AssertionError(f"it stays {self.rollout.phase}: {self.rollout.reason}")

    def weights(self) -> dict[str, float]:
        return {name: slot.weight for name, slot in self.service.slots.items() if slot}

    def counts(self) -> dict[str, int]:
        return {name: slot.count for name, slot in self.service.slots.items() if slot}


def play(
    strategy: str = "canary", cause: str = "deploy", protocol: str = "http", **deploy: Any
) -> Play:
    deploy = {"strategy": strategy, "steps": [0.05, 0.5]} | deploy
    body = {"scale": SCALE, "protocol": protocol, "deploy": deploy}
    service = running(application(catalog=body)).services["catalog"]
    rollout = Rollout(
        id="catalog-r1",
        service="catalog",
        from_release="catalog@1",
        to_release="catalog@2",
        strategy=strategy,  # type: ignore[arg-type]
        cause=cause,  # type: ignore[arg-type]
        slot="b",
        group="catalog-r1",
        created_at=0.0,
        since=0.0,
    )
    return Play(rollout, service)


def stages_of(found: Play) -> Iterator[tuple[int, dict[str, float]]]:
    """Every step with its weights, promoted as soon as it is analysed."""
    while not found.rollout.ended:
        phase = found.look().phase
        if phase is Phase.ANALYSING and found.verdict != "promote":
            yield found.rollout.step, found.weights()
            found.verdict = "promote"
        elif phase is Phase.SHIFTING:
            found.verdict = "continue"


def test_a_good_canary_goes_through_its_steps_and_the_old_group_keeps_its_size() -> None:
    found = play()
    assert list(stages_of(found)) == [(1, {"a": 95, "b": 5}), (2, {"a": 50, "b": 50})]
    assert found.rollout.phase is Phase.DONE and found.rollout.verdict == "promote"
    assert found.service.active == "b" and found.weights() == {"a": 0, "b": 100}
    assert found.counts() == {"a": SCALE, "b": SCALE}  # the old one stays, warm
    assert found.service.warm_until is not None


def test_the_group_grows_before_its_share_does() -> None:
    found = play()
    sizes = [(step, found.counts()["b"]) for step, _ in stages_of(found)]
    assert sizes == [(1, 1), (2, 2)]


def test_without_evidence_nothing_advances() -> None:
    found = play()
    found.until(Phase.ANALYSING)
    for _ in range(50):
        found.look()
    assert found.rollout.phase is Phase.ANALYSING and found.rollout.step == 1


def test_a_baseline_is_as_large_as_the_canary_and_gets_as_much() -> None:
    found = play(baseline=True)
    seen = []
    for _, weights in stages_of(found):
        seen.append((weights, found.counts()))
        beside = found.service.slots[BASELINE]
        assert beside is not None
        assert (beside.release, beside.track) == ("catalog@1", Track.BASELINE)
    assert seen == [
        ({"a": 90, "b": 5, "c": 5}, {"a": SCALE, "b": 1, "c": 1}),
        ({"a": 25, "b": 50, "c": 25}, {"a": SCALE, "b": 2, "c": 2}),
    ]
    assert found.counts()[BASELINE] == 0 and found.weights()[BASELINE] == 0


def test_a_baseline_that_starts_is_waited_for_and_named() -> None:
    found = play(baseline=True)
    found.beside = Group(0, 1)
    for _ in range(30):
        found.look()
    assert found.rollout.phase is Phase.STARTING
    assert found.rollout.reason == "waits for its baseline: 0 of 1 instances of catalog@1 are ready"
    found.beside = None
    assert found.until(Phase.ANALYSING).no_baseline == ""


FAILED = Group(0, 1, "catalog-1-7 was not ready within 30s: refused")


def test_a_baseline_that_cannot_start_is_given_up() -> None:
    found = play(baseline=True)
    found.beside = FAILED
    found.until(Phase.ANALYSING)
    assert found.rollout.no_baseline == FAILED.failure
    assert found.weights() == {"a": 95, "b": 5, "c": 0} and found.counts()[BASELINE] == 0
    found.verdict = "promote"
    found.until(Phase.DONE)
    assert found.counts() == {"a": SCALE, "b": SCALE, "c": 0}


def test_a_baseline_that_cannot_grow_gives_its_requests_back_to_the_old_group() -> None:
    found = play(baseline=True)
    found.until(Phase.ANALYSING)
    assert found.weights() == {"a": 90, "b": 5, "c": 5}
    found.verdict, found.beside = "promote", FAILED
    while not found.rollout.no_baseline:
        assert sum(found.weights().values()) == 100
        found.look()
    assert found.weights() == {"a": 95, "b": 5, "c": 0}
    assert found.until(Phase.ANALYSING).step == 2
    assert found.weights() == {"a": 50, "b": 50, "c": 0} and found.counts()[BASELINE] == 0


def test_a_failing_baseline_that_is_large_enough_is_kept() -> None:
    found = play(baseline=True)
    found.beside = replace(FAILED, ready=1)
    assert found.until(Phase.ANALYSING).no_baseline == ""


def test_a_baseline_that_fails_later_keeps_nobody_for_long() -> None:
    """The step's evidence is gathered anew beside the old group, and has its time for that."""
    found = play(baseline=True)
    found.until(Phase.ANALYSING)
    found.beside = Group(0, 1)
    assert found.look().phase is Phase.ANALYSING, "it may be back in a moment"
    found.beside = FAILED
    assert (found.look().phase, found.rollout.step) == (Phase.SHIFTING, 1)
    assert found.rollout.no_baseline == FAILED.failure
    assert found.weights() == {"a": 95, "b": 5, "c": 0} and found.counts()[BASELINE] == 0
    assert found.until(Phase.ANALYSING).step == 1


def test_without_anything_of_the_old_release_its_baseline_is_not_given_up() -> None:
    found = play(baseline=True)
    found.until(Phase.ANALYSING)
    found.beside, found.unserved = FAILED, 30.0
    found.verdict = "continue"
    found.look()
    assert not found.rollout.no_baseline


def test_a_baseline_beside_what_served_alone_is_as_large_as_its_step_asks() -> None:
    found = play(baseline=True)
    found.unserved, found.beside = 30.0, Group()
    found.until(Phase.ANALYSING)
    found.unserved, found.beside, found.verdict = 0.0, None, "promote"
    found.until(Phase.SHIFTING)
    found.until(Phase.ANALYSING)
    assert found.rollout.step == 2
    assert found.counts() == {"a": SCALE, "b": SCALE, "c": 2}


def test_who_lets_every_step_pass_does_not_wait_for_a_baseline() -> None:
    found = play(baseline=True)
    found.beside = Group(0, 1)
    found.until(Phase.STARTING)
    found.rollout = promoted(found.rollout, full=True)
    found.until(Phase.DONE)


def test_who_promotes_at_the_start_waits_for_no_baseline_and_is_judged() -> None:
    found = play(baseline=True)
    found.beside = Group(0, 1)
    found.until(Phase.STARTING)
    found.rollout = promoted(found.rollout, full=False)
    found.until(Phase.ANALYSING)
    for _ in range(10):
        assert found.look().step == 1
    assert "0 of 1 instances" in found.rollout.no_baseline
    assert found.weights() == {"a": 95, "b": 5, "c": 0}


def test_bad_evidence_gives_all_requests_back_at_once_and_keeps_the_old_group_whole() -> None:
    found = play(baseline=True)
    found.until(Phase.ANALYSING)
    found.verdict = "abort"
    assert found.look().phase is Phase.ROLLING_BACK
    assert found.weights() == {"a": 100, "b": 0, "c": 0}
    assert found.counts()["a"] == SCALE
    found.until(Phase.ROLLED_BACK)
    assert found.rollout.verdict == "abort" and found.rollout.reason == "it says abort"
    assert found.rollout.evidence


def test_bad_evidence_takes_back_a_paused_one_too() -> None:
    found = play(approve=True)
    found.verdict = "promote"
    found.until(Phase.PAUSED)
    found.verdict = "abort"
    assert found.look().phase is Phase.ROLLING_BACK


@pytest.mark.parametrize(
    ("choice", "phase", "verdict"),
    [
        ("pause", Phase.PAUSED, "inconclusive"),
        ("rollback", Phase.ROLLING_BACK, "inconclusive"),
        ("promote", Phase.SHIFTING, "inconclusive"),
    ],
)
def test_without_enough_evidence_in_time_the_owner_decides(
    choice: str, phase: Phase, verdict: str
) -> None:
    found = play(on_inconclusive=choice, at_most=60)
    found.until(Phase.ANALYSING)
    found.in_phase = 61
    after = found.look()
    assert (after.phase, after.verdict) == (phase, verdict)
    assert after.paused_for == ("evidence" if choice == "pause" else "")
    if choice != "promote":
        assert "not enough evidence within 1m" in after.reason


def test_approval_is_asked_before_the_last_step_only() -> None:
    found = play(approve=True)
    found.verdict = "promote"
    paused = found.until(Phase.PAUSED)
    assert (paused.step, paused.paused_for) == (
        2,
        "approval",
    ) and "volery promote catalog" in paused.reason
    assert found.weights()["b"] == 50
    found.rollout = promoted(resume(found.rollout, 0.0), full=False)
    assert found.until(Phase.DONE).step == 3


def test_approval_is_waited_for_and_not_evidence_that_the_owner_did_without() -> None:
    found = play(approve=True, on_inconclusive="promote", at_most=60, steps=[0.5])
    found.until(Phase.ANALYSING)
    found.in_phase = 61
    waiting = found.until(Phase.PAUSED)
    assert "approval" in waiting.reason and waiting.verdict != "inconclusive"


def test_resuming_is_no_approval() -> None:
    found = play(approve=True)
    found.verdict = "promote"
    found.until(Phase.PAUSED)
    found.rollout = resume(found.rollout, 0.0)
    assert "approval" in found.until(Phase.PAUSED).reason


def test_a_person_may_let_a_step_pass_or_all_of_them() -> None:
    found = play()
    found.until(Phase.ANALYSING)
    found.rollout = promoted(found.rollout, full=False)
    assert found.until(Phase.SHIFTING).step == 2
    assert found.until(Phase.ANALYSING).step == 2
    found.rollout = promoted(found.rollout, full=True)
    found.until(Phase.DONE)


def test_copies_of_requests_come_before_any_request() -> None:
    found = play(mirror=0.2)
    assert [weights["b"] for _, weights in stages_of(found)] == [0, 5, 50]
    again = play(mirror=0.2)
    again.until(Phase.ANALYSING)
    new = again.service.slots["b"]
    assert new is not None and (new.mirror, new.weight, new.count) == (20, 0, 1)


@pytest.mark.parametrize("protocol", ["grpc", "tcp"])
def test_no_evidence_is_awaited_of_copies_that_are_not_made(protocol: str) -> None:
    found = play(mirror=0.2, protocol=protocol)
    while found.rollout.step < 2:
        found.look()
        new = found.service.slots["b"]
        assert new is None or (new.mirror, new.weight) == (0, 0)
    assert found.until(Phase.ANALYSING).step == 2 and found.weights()["b"] == 5
    found.look()
    assert found.rollout.phase is Phase.ANALYSING


def test_what_is_left_of_an_earlier_baseline_gets_nothing() -> None:
    found = play()
    left = Slot("catalog@1", Track.BASELINE, 0, 0)
    found.service = replace(found.service, slots=dict(found.service.slots) | {BASELINE: left})
    found.until(Phase.ANALYSING)
    assert found.weights()[BASELINE] == 0 and found.weights()["b"] == 5


@pytest.mark.parametrize("deploy", [{}, {"baseline": True}, {"mirror": 0.2}, {"ramp": 600.0}])
@pytest.mark.parametrize("choice", ["pause", "rollback"])
def test_where_nothing_of_the_old_release_serves_the_steps_pass(
    deploy: dict[str, Any], choice: str
) -> None:
    found = play(on_inconclusive=choice, at_most=10, **deploy)
    found.unserved, found.in_phase = 10.0, 10.0
    while found.rollout.step == 0:
        found.look()
    assert found.counts()["b"] == SCALE
    assert found.rollout.reason == UNOPPOSED
    found.until(Phase.ANALYSING)
    assert found.weights()["b"] < 50
    found.until(Phase.DONE)


def test_there_is_time_to_see_that_the_remedy_is_none() -> None:
    found = play()
    found.unserved = 60.0
    found.until(Phase.ANALYSING)
    found.in_phase = 9.0
    for _ in range(10):
        assert (found.look().phase, found.rollout.step) == (Phase.ANALYSING, 1)
    found.verdict = "abort"
    assert found.look().phase is Phase.ROLLING_BACK


@pytest.mark.parametrize("unserved", [0.0, 9.0])
def test_an_old_release_that_serves_or_only_blinks_is_compared_with(unserved: float) -> None:
    found = play()
    found.unserved, found.in_phase = unserved, 10.0
    found.until(Phase.ANALYSING)
    for _ in range(10):
        found.look()
    assert (found.rollout.phase, found.rollout.step) == (Phase.ANALYSING, 1)
    assert found.counts()["b"] == 1


def test_a_remedy_still_waits_for_gates_and_for_approval() -> None:
    found = play(approve=True)
    found.unserved, found.in_phase = 60.0, 10.0
    found.gate = lambda at: GateState("hold" if at == "before_step:2" else "open", f"gate {at}")
    assert found.until(Phase.PAUSED).reason == "gate before_step:2"
    found.rollout = promoted(resume(found.rollout, 0.0), full=False)
    assert found.until(Phase.PAUSED).paused_for == "approval"
    assert found.counts()["b"] == SCALE


def test_what_is_paused_for_want_of_evidence_goes_on_when_the_old_release_is_down() -> None:
    found = play(at_most=60)
    found.until(Phase.ANALYSING)
    found.in_phase = 61
    assert found.until(Phase.PAUSED).paused_for == "evidence"
    found.unserved = 10.0
    found.until(Phase.DONE)


def test_a_ramp_lets_the_first_share_grow() -> None:
    found = play(ramp=10)
    found.until(Phase.ANALYSING)
    seen = []
    for in_phase in (0.0, 4.0, 9.9, 10.0):
        found.in_phase = in_phase
        found.look()
        seen.append(found.weights()["b"])
    assert seen == [0.5, 2.5, 5, 5]


def test_no_evidence_cuts_a_ramp_short() -> None:
    found = play(ramp=60)
    found.until(Phase.ANALYSING)
    found.verdict = "promote"
    seen = []
    for in_phase in (0.0, 12.0, 30.0, 53.9):
        found.in_phase = in_phase
        found.look()
        found.look()
        seen.append((found.rollout.step, found.weights()["b"]))
    assert seen == [(1, 0.5), (1, 1.5), (1, 3), (1, 4.5)]
    found.in_phase = 54.0
    assert found.look().step == 1 and found.weights()["b"] == 5
    assert found.look().step == 2


@pytest.mark.parametrize("choice", ["pause", "rollback", "promote"])
def test_a_step_is_given_its_time_after_the_ramp(choice: str) -> None:
    found = play(ramp=60, at_most=30, on_inconclusive=choice)
    found.until(Phase.ANALYSING)
    for in_phase in (0.0, 31.0, 60.0, 89.0):
        found.in_phase = in_phase
        found.look()
        assert (found.look().phase, found.rollout.step) == (Phase.ANALYSING, 1)
    found.in_phase = 90.0
    assert found.look().phase is not Phase.ANALYSING


def test_a_person_may_cut_a_ramp_short_and_bad_evidence_does() -> None:
    found = play(ramp=60)
    found.until(Phase.ANALYSING)
    found.rollout = promoted(found.rollout, full=False)
    assert found.look().step == 2
    found = play(ramp=60)
    found.until(Phase.ANALYSING)
    found.verdict = "abort"
    assert found.look().phase is Phase.ROLLING_BACK


def test_a_pause_does_not_begin_a_ramp_anew() -> None:
    found = play(ramp=60)
    found.until(Phase.ANALYSING)
    found.in_phase = 60.0
    found.look()
    found.rollout = resume(pause(found.rollout, 0.0, "by hand"), 0.0)
    found.in_phase, found.verdict = 0.0, "promote"
    assert found.look().step == 2


def test_after_copies_the_first_share_of_requests_grows_too() -> None:
    found = play(ramp=10, mirror=0.2)
    found.until(Phase.ANALYSING)
    found.rollout = promoted(found.rollout, full=False)
    seen = []
    for in_phase in (0.0, 0.0, 0.0, 4.0, 10.0):
        found.in_phase = in_phase
        found.look()
        seen.append(found.weights()["b"])
    assert sorted(set(seen) - {0}) == [0.5, 2.5, 5]


@pytest.mark.parametrize("point", ["before_step:1", "before_step:2", "before_step:3", "after"])
@pytest.mark.parametrize("state", ["wait", "hold", "abort"])
def test_gates_hold_or_abort_where_they_stand(point: str, state: str) -> None:
    found = play()
    found.verdict = "promote"
    found.gate = lambda at: (
        GateState(state, f"gate {at}") if at == point else GateState()  # type: ignore[arg-type]
    )
    if state == "wait":
        for _ in range(30):
            found.look()
        assert not found.rollout.ended and found.rollout.reason == f"gate {point}"
        found.gate = no_gates
        found.until(Phase.DONE)
    elif state == "hold":
        held = found.until(Phase.PAUSED)
        assert (held.reason, held.paused_for) == (f"gate {point}", "gate")
        found.rollout = promoted(resume(found.rollout, 0.0), full=False)
        found.until(Phase.DONE)
    else:
        assert found.until(Phase.ROLLING_BACK).verdict == "abort"


@pytest.mark.parametrize("strategy", ["canary", "blue-green"])
def test_promoting_past_the_gate_before_the_start_is_no_approval(strategy: str) -> None:
    found = play(strategy, approve=True, watch=60)
    found.verdict = "promote"
    found.gate = lambda at: GateState("hold" if at == "before_start" else "open", f"gate {at}")
    assert found.until(Phase.PAUSED).paused_for == "gate"
    found.rollout = promoted(resume(found.rollout, 0.0), full=False)
    assert found.until(Phase.PAUSED).paused_for == "approval"


@pytest.mark.parametrize("strategy", ["canary", "blue-green", "rolling"])
def test_promoting_in_full_before_the_start_lets_every_step_pass(strategy: str) -> None:
    found = play(strategy, approve=True, watch=60, steps=[0.05, 0.2, 0.5])
    found.gate = lambda at: GateState("hold", f"gate {at}")
    assert found.until(Phase.PAUSED).paused_for == "gate"
    found.rollout = promoted(resume(found.rollout, 0.0), full=True)
    assert found.until(Phase.PAUSED, Phase.DONE).phase is Phase.DONE, found.rollout.reason


@pytest.mark.parametrize("strategy", ["canary", "blue-green", "rolling"])
@pytest.mark.parametrize(
    ("full", "by_comparison", "ends"),
    [(True, True, Phase.DONE), (True, False, Phase.ROLLED_BACK), (False, True, Phase.ROLLED_BACK)],
)
def test_who_lets_it_pass_in_full_is_overruled_by_what_is_plainly_wrong_alone(
    strategy: str, full: bool, by_comparison: bool, ends: Phase
) -> None:
    found = play(strategy, watch=60)
    found.until(Phase.STARTING)
    found.rollout = promoted(found.rollout, full=full)
    found.verdict, found.by_comparison = "abort", by_comparison
    assert found.until(Phase.DONE, Phase.ROLLED_BACK).phase is ends
    assert found.rollout.verdict == ("promote" if ends is Phase.DONE else "abort")


@pytest.mark.parametrize("left", ["catalog@0", "catalog@2"])
def test_a_canary_in_the_place_of_a_warm_group_is_not_warm(left: str) -> None:
    found = play()
    slots = dict(found.service.slots) | {"b": Slot(left, Track.BLUE, SCALE, 0)}
    found.service = replace(found.service, slots=slots, warm_until=700.0)
    found.look()
    assert found.service.warm_until is None
    found.until(Phase.ANALYSING)
    assert found.service.slots["b"].track is Track.CANARY  # type: ignore[union-attr]
    found.verdict = "abort"
    found.until(Phase.ROLLED_BACK)
    assert (found.service.slots["b"], found.service.warm_until) == (None, None)


def test_a_no_before_anything_runs_does_not_judge_the_release() -> None:
    found = play()
    found.gate = lambda at: GateState("abort", f"gate {at}")
    ended = found.until(Phase.ROLLED_BACK)
    assert (ended.verdict, ended.reason) == (None, "gate before_start")


def test_the_last_step_waits_for_those_it_belongs_together_with() -> None:
    found = play()
    found.verdict, found.behind = "promote", "cart"
    for _ in range(30):
        found.look()
    assert found.rollout.step == 2 and found.rollout.reason == "waits for cart"
    found.behind = ""
    found.until(Phase.DONE)


def test_blue_green_switches_in_one_and_is_watched_then() -> None:
    found = play("blue-green", watch=10, ramp=60)  # which is for canaries
    found.until(Phase.ANALYSING)
    assert found.weights() == {"a": 0, "b": 100} and found.counts() == {"a": SCALE, "b": SCALE}
    found.look()
    assert found.rollout.phase is Phase.ANALYSING
    found.in_phase = 10
    found.until(Phase.DONE)


@pytest.mark.parametrize("looked", [True, False])
def test_a_switch_is_watched_for_longer_while_something_speaks_against_it(looked: bool) -> None:
    """Also by a control plane that began anew and has not looked yet."""
    found = play("blue-green", watch=10)
    found.suspicious = True
    found.until(Phase.ANALYSING)
    found.look()
    found.in_phase, found.looked = 599, looked
    assert found.look().phase is Phase.ANALYSING
    found.suspicious, found.looked = False, True
    found.until(Phase.DONE)


def test_a_switch_that_nobody_could_look_at_is_watched_no_longer() -> None:
    found = play("blue-green", watch=10)
    found.looked = False
    found.until(Phase.ANALYSING)
    found.in_phase = 10
    found.until(Phase.DONE)


@pytest.mark.parametrize(
    ("choice", "phase"),
    [("pause", Phase.PAUSED), ("rollback", Phase.ROLLING_BACK), ("promote", Phase.PROMOTING)],
)
@pytest.mark.parametrize(("watch", "at_most"), [(10, 60), (60, 10)])
def test_a_switch_that_is_not_known_to_be_well_in_time_is_decided_by_the_owner(
    choice: str, phase: Phase, watch: int, at_most: int
) -> None:
    found = play("blue-green", watch=watch, at_most=at_most, on_inconclusive=choice)
    found.suspicious = True
    found.until(Phase.ANALYSING)
    found.in_phase = 59
    assert found.look().phase is Phase.ANALYSING
    found.in_phase = 60
    assert found.look().phase is phase
    if choice != "promote":
        assert "not enough evidence within 1m" in found.rollout.reason


def test_blue_green_switches_back_by_itself() -> None:
    found = play("blue-green", watch=10)
    found.until(Phase.ANALYSING)
    found.verdict = "abort"
    found.look()
    assert found.weights() == {"a": 100, "b": 0}
    assert found.until(Phase.ROLLED_BACK).verdict == "abort"


def test_a_switch_that_is_to_be_watched_no_more_is_over() -> None:
    found = play("blue-green", watch=10)
    found.until(Phase.ANALYSING)
    found.suspicious, found.in_phase = True, 11.0
    assert found.look().phase is Phase.ANALYSING and found.rollout.evidence
    deploy = found.service.config.deploy.model_copy(update={"watch": 0.0})
    config = found.service.config.model_copy(update={"deploy": deploy})
    found.service, found.looked = replace(found.service, config=config), False
    found.until(Phase.DONE)


def test_going_back_waits_for_nobody() -> None:
    found = play("blue-green", cause="rollback", watch=10, approve=True)
    found.gate = lambda at: GateState("abort", at)
    found.until(Phase.DONE)


def test_an_abort_by_hand_holds_nothing_against_the_release() -> None:
    found = play()
    found.until(Phase.ANALYSING)
    found.rollout, found.service = abort(found.rollout, found.service, "by hand", 0.0)
    assert found.until(Phase.ROLLED_BACK).verdict is None


def test_a_scale_of_nothing_has_a_canary_of_nothing() -> None:
    found = play()
    found.service = replace(found.service, scale=0)
    found.verdict = "promote"
    assert found.until(Phase.DONE) and found.counts()["b"] == 0


@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.STARTING, Phase.SHIFTING])
def test_a_service_that_is_scaled_to_nothing_comes_back_as_nothing(phase: Phase) -> None:
    found = play("blue-green", cause="rollback")
    while found.rollout.phase is not phase:
        found.look()
    slots = dict(found.service.slots)
    if phase is Phase.BUILDING:
        assert slots["a"]
        slots["a"] = replace(slots["a"], count=0)
    found.service = replace(found.service, scale=0, slots=slots)
    assert found.until(Phase.DONE)


@pytest.mark.parametrize("strategy", ["canary", "blue-green"])
def test_another_size_while_the_new_group_starts(strategy: str) -> None:
    """`up` with a larger scale: the new group grows too, and is not waited for in vain."""
    found = play(strategy, steps=["50%"])
    while found.rollout.phase is not Phase.STARTING:
        found.look()
    found.service = replace(found.service, scale=3 * SCALE)
    found.until(Phase.ANALYSING)
    assert found.counts()["b"] == (3 * SCALE // 2 if strategy == "canary" else 3 * SCALE)
