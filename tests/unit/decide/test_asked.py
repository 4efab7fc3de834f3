"""What a rollout asks outside, and what the answers add up to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.decide.worlds import canary_world, only, seen

from volery.decide.asked import (
    Call,
    Streak,
    calls,
    control_slot,
    gate_key,
    gate_state,
    metric_key,
    metric_lines,
    request_key,
    request_lines,
    said,
    streaks,
    with_metrics,
)
from volery.decide.situation import GateState
from volery.decide.world import World
from volery.model.deploy import Deploy
from volery.model.evidence import Judgement, Line
from volery.model.ports import Answer, GateCall, MetricCall, SyntheticCall
from volery.model.state import BASELINE, Phase, Slot, Track
from volery.model.units import Condition

GATES = [
    {"when": "before_start", "command": "./first"},
    {"when": "before_step", "command": "./ask me"},
    {"when": "before_step", "url": "/smoke", "on_failure": "hold"},
    {"when": "after", "url": "http://127.0.0.1:9/told"},
]
QUEUE = {"command": "./queue {track}", "limit": "< 500", "failures": 2}
ALONE = {"command": "./disk", "limit": ">= 10%"}


def port(caller: str, slot: str, callee: str) -> int:
    assert (caller, slot) == ("synthetic.volery", "a")
    return 20000 + len(callee)


def asked_in(found: World) -> dict[str, Call]:
    """What is asked where nobody goes first."""
    return calls(found, port, lambda rollout: True)


def deploy_of(found: World) -> Deploy:
    return found.services["catalog"].config.deploy


# --- gates ----------------------------------------------------------------------------------------

YES, NO, BROKEN, WAITING = (Answer(state, state) for state in ("yes", "no", "broken", "waiting"))


@pytest.mark.parametrize(
    ("first", "second", "state", "words"),
    [
        (YES, YES, "open", ""),
        (None, None, "wait", "waits for gate ./ask me"),
        (WAITING, YES, "wait", "waits for gate ./ask me"),
        (YES, WAITING, "wait", "waits for gate /smoke"),
        (NO, WAITING, "abort", "gate ./ask me said no: no"),
        (YES, NO, "hold", "gate /smoke said no: no"),
        (YES, BROKEN, "hold", "gate /smoke gave no answer: broken"),
        (BROKEN, NO, "abort", "gate ./ask me gave no answer: broken"),
        (WAITING, BROKEN, "hold", "gate /smoke gave no answer: broken"),
    ],
)
def test_the_first_gate_that_does_not_open_speaks_for_all(
    first: Answer | None, second: Answer | None, state: str, words: str
) -> None:
    found = canary_world(gates=GATES)
    rollout, point = only(found), "before_step:2"
    keys = [gate_key(rollout, point, gate) for gate in deploy_of(found).gates[1:3]]
    answers = {k: a for k, a in zip(keys, (first, second), strict=True) if a is not None}
    assert gate_state(rollout, deploy_of(found), point, answers) == GateState(state, words)  # type: ignore[arg-type]


def test_a_point_without_gates_is_open_and_another_attempt_asks_anew() -> None:
    found = canary_world(gates=GATES[:1])
    rollout = only(found)
    assert gate_state(rollout, deploy_of(found), "after", {}) == GateState()
    (gate,) = deploy_of(found).gates
    keys = {gate_key(replace(rollout, attempt=n), p, gate) for n in (0, 1) for p in ("a", "b")}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("edited", "asked_anew"),
    [
        (GATES[2:3], True),
        ([GATES[1] | {"timeout": "5s"}, GATES[2]], True),
        ([GATES[1] | {"on_failure": "hold"}, GATES[2]], False),
        ([GATES[2], GATES[1]], True),
    ],
)
def test_no_gate_is_opened_by_the_answer_of_another(
    edited: list[dict[str, str]], asked_anew: bool
) -> None:
    """Gates of a manifest that is edited while the rollout is under way."""
    before, after = (deploy_of(canary_world(gates=gates)) for gates in (GATES[1:3], edited))
    rollout, point = only(canary_world()), "before_step:2"
    first = gate_key(rollout, point, before.gates[0])
    answers = {first: YES}
    assert (gate_key(rollout, point, after.gates[0]) != first) == asked_anew
    assert gate_state(rollout, after, point, answers).state == "wait"


@pytest.mark.parametrize(
    ("phase", "step", "passed", "asked"),
    [
        (Phase.BUILDING, 0, 0, ["before_start"]),
        (Phase.STARTING, 0, 0, ["before_step:1"]),
        (Phase.ANALYSING, 1, 0, []),
        (Phase.ANALYSING, 1, 1, ["before_step:2"]),
        (Phase.SHIFTING, 2, 2, ["before_step:3"]),
        (Phase.SHIFTING, 3, 3, ["after"]),
        (Phase.PROMOTING, 3, 3, []),
    ],
)
def test_gates_are_asked_for_the_next_move_only(
    phase: Phase, step: int, passed: int, asked: list[str]
) -> None:
    found = canary_world(phase, gates=GATES)
    rollout = replace(only(found), step=step, passed=passed)
    found = replace(found, rollouts={rollout.id: rollout})
    points = {key.split("/")[1] for key, call in asked_in(found).items()}
    assert sorted(points) == asked


@pytest.mark.parametrize(
    "changed", [{"from_release": None}, {"strategy": "rolling"}, {"strategy": "recreate"}]
)
def test_what_does_not_go_by_stages_is_asked_about_before_its_start_only(
    changed: dict[str, Any],
) -> None:
    found = canary_world(Phase.STARTING, gates=GATES)
    rollout = replace(only(found), step=0, **changed)
    assert asked_in(replace(found, rollouts={rollout.id: rollout})) == {}
    rollout = replace(rollout, phase=Phase.BUILDING)
    assert len(asked_in(replace(found, rollouts={rollout.id: rollout}))) == 1


def test_what_a_gate_is_told() -> None:
    found = canary_world(Phase.STARTING, gates=GATES)
    call = asked_in(found)[gate_key(only(found), "before_step:1", deploy_of(found).gates[2])]
    assert isinstance(call, GateCall)
    assert call.gate.url == "/smoke" and call.directory == "/src"
    assert call.subject.instances == {"catalog-2-1": "127.0.0.1:20999"}
    assert call.about == {
        "app": "birds",
        "environment": "dev",
        "service": "catalog",
        "release": "catalog@2",
        "from_release": "catalog@1",
        "rollout": "catalog-r2",
        "when": "before_step",
        "step": "1",
        "weight": "10",
    }


def test_a_release_that_is_not_built_has_nothing_to_ask_about() -> None:
    found = canary_world(Phase.BUILDING, gates=GATES)
    unbuilt = replace(found.releases["catalog@2"], state="new")
    assert asked_in(replace(found, releases={**found.releases, unbuilt.id: unbuilt})) == {}


@pytest.mark.parametrize(
    ("states", "asks"),
    [((), False), (("starting",), False), (("unready",), False), (("ready",), True)],
)
def test_a_first_step_is_asked_about_when_its_group_is_there(
    states: tuple[str, ...], asks: bool
) -> None:
    found = canary_world(Phase.STARTING, gates=GATES)
    there = {f"catalog-2-{n}": seen(f"catalog-2-{n}", 9, s) for n, s in enumerate(states, 1)}
    old = {key: item for key, item in found.observed.items() if key != "catalog-2-1"}
    assert bool(asked_in(replace(found, observed={**old, **there}))) == asks


@pytest.mark.parametrize("cause", ["rollback", "restart"])
def test_going_back_asks_nobody(cause: str) -> None:
    more: dict[str, Any] = {
        "metrics": {"queue": QUEUE},
        "synthetic": [{"path": "/"}],
        "gates": GATES,
    }
    for phase in Phase:
        assert asked_in(canary_world(phase, cause, **more)) == {}


# --- metrics and requests -------------------------------------------------------------------------


def test_metrics_are_asked_of_both_releases_where_the_question_tells_them_apart() -> None:
    found = canary_world(metrics={"queue": QUEUE, "disk": ALONE})
    asked = {k: c for k, c in asked_in(found).items() if isinstance(c, MetricCall)}
    tracks = {key: call.subject.track for key, call in asked.items()}
    assert tracks == {
        metric_key(only(found), "queue", "new"): "canary",
        metric_key(only(found), "queue", "old"): "stable",
        metric_key(only(found), "disk", "new"): "canary",
    }


@pytest.mark.parametrize(
    ("phase", "asks"),
    [
        (Phase.STARTING, False),
        (Phase.SHIFTING, True),
        (Phase.ANALYSING, True),
        (Phase.PROMOTING, False),
        (Phase.ROLLING_BACK, False),
    ],
)
def test_metrics_and_requests_are_there_while_something_is_compared(
    phase: Phase, asks: bool
) -> None:
    found = canary_world(phase, metrics={"disk": ALONE}, synthetic=[{"path": "/deep"}])
    assert bool(asked_in(found)) == asks


def test_our_requests_go_to_both_groups_by_the_way_of_users() -> None:
    found = canary_world(synthetic=[{"path": "/deep", "rate": 2}])
    asked = [call for call in asked_in(found).values() if isinstance(call, SyntheticCall)]
    assert {call.base_url for call in asked} == {"http://127.0.0.1:20007"}
    assert [dict(call.headers) for call in asked] == [{"baggage": "volery-track=canary"}, {}]
    assert asked_in(canary_world(Phase.PAUSED, synthetic=[{"path": "/deep"}])) == {}


def test_a_canary_is_compared_with_its_baseline_once_that_gets_requests() -> None:
    found = canary_world(baseline=True)
    service, rollout = found.services["catalog"], only(found)
    for beside, expected in (
        (None, "a"),
        (Slot("catalog@1", Track.BASELINE, 1, 0), "a"),
        (Slot("catalog@1", Track.BASELINE, 1, 10), BASELINE),
        (Slot("catalog@1", Track.BASELINE, 0, 10), "a"),
    ):
        slots = dict(service.slots) | {BASELINE: beside}
        assert control_slot(rollout, replace(service, slots=slots)) == expected


def value(number: float | None, at: float = 1.0, state: str = "yes") -> Answer:
    return Answer(state, f"said {state}", number, at)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("new", "old", "failures", "state", "words"),
    [
        (None, None, 0, "missing", "queue is not known, limit < 500"),
        (value(None, state="broken"), None, 0, "missing", "queue is not known: said broken"),
        (value(3), None, 0, "good", "queue 3, limit < 500"),
        (value(3), value(4), 0, "good", "queue 3 against 4, limit < 500"),
        (value(900, state="yes"), value(4), 1, "undecided", "1 of 2 times in a row"),
        (value(900, state="yes"), value(4), 2, "bad", "2 of 2 times in a row"),
        (
            value(900, state="yes"),
            value(950, state="yes"),
            9,
            "undecided",
            "the old release has it",
        ),
        (value(900, state="yes"), value(None, state="broken"), 2, "bad", "queue 900, limit"),
        (value(900), value(None, state="waiting"), 2, "undecided", "the old release was not asked"),
        (value(900), None, 9, "undecided", "the old release was not asked yet"),
        (value(3), None, 1, "undecided", "queue 3, limit < 500: not measured in this step yet"),
    ],
)
def test_what_a_metric_says(
    new: Answer | None, old: Answer | None, failures: int, state: str, words: str
) -> None:
    found = canary_world(metrics={"queue": QUEUE})
    rollout = only(found)
    given_ = {"new": new, "old": old}
    answers = {metric_key(rollout, "queue", k): a for k, a in given_.items() if a is not None}
    streak = Streak(failures, 1.0, good=failures == 0)
    (line,) = metric_lines(rollout, deploy_of(found), answers, {"queue": streak})
    assert (line.metric, line.state) == ("queue", state)
    assert words in line.text


@given(st.lists(st.sampled_from(["in", "out", "same", "broken", "none"]), max_size=30))
def test_each_answer_counts_once_and_missing_ones_not_at_all(story: list[str]) -> None:
    found = canary_world(metrics={"queue": QUEUE})
    rollout, deploy = only(found), deploy_of(found)
    key, at, expected = metric_key(rollout, "queue", "new"), 0.0, 0
    state: dict[str, Streak] = {}
    last: Answer | None = None
    for word in story:
        at += 1
        if word in ("in", "out"):
            last = Answer("yes", "", 3 if word == "in" else 900, at)
            expected = 0 if word == "in" else expected + 1
        answers = {} if last is None else {key: last}
        if word == "broken":
            answers = {key: Answer("broken", "late", None, at)}
        if word == "none":
            answers = {}
        state = streaks(rollout, deploy, answers, state, in_force=True)
        assert state["queue"].failures == expected
        assert not (word in ("broken", "none") and state["queue"].good)


def test_what_both_had_does_not_count_once_it_is_over() -> None:
    """The two are asked at different moments: the old release is first to be seen well again."""
    found = canary_world(metrics={"queue": QUEUE})
    rollout, deploy = only(found), deploy_of(found)
    state: dict[str, Streak] = {}

    def told(new: tuple[float, float], old: tuple[float, float]) -> tuple[str, int]:
        nonlocal state
        of = {"new": new, "old": old}
        answers = {metric_key(rollout, "queue", k): Answer("yes", "", *of[k]) for k in of}
        state = streaks(rollout, deploy, answers, state, in_force=True)
        (line,) = metric_lines(rollout, deploy, answers, state)
        return line.state, state["queue"].failures

    for at in (0.0, 10.0, 20.0, 30.0):
        assert told((900, at), (900, at + 3)) == ("undecided", 0)
    assert told((900, 30), (3, 43)) == ("undecided", 0)
    assert told((900, 40), (3, 43)) == ("undecided", 1)
    assert told((900, 50), (3, 53)) == ("bad", 2), "now it is its own"


@pytest.mark.parametrize("verdict", ["promote", "continue", "abort", "inconclusive"])
@pytest.mark.parametrize("states", [(), ("good",), ("bad",), ("missing",), ("good", "bad")])
def test_a_bad_metric_aborts_and_an_open_one_holds(verdict: str, states: tuple[str, ...]) -> None:
    lines = tuple(Line(f"m{n}", s, f"{n} is {s}") for n, s in enumerate(states))  # type: ignore[arg-type]
    before = Judgement(verdict, "by requests", (Line("errors", "good", "errors"),))  # type: ignore[arg-type]
    after = with_metrics(before, lines, {})
    assert after.lines == (*before.lines, *lines)
    if "bad" in states:
        assert after.verdict == "abort"
    elif "missing" in states and verdict == "promote":
        assert (after.verdict, after.reason) == ("continue", "waits: 0 is missing")
    elif "missing" in states and verdict == "continue":
        assert (after.verdict, after.reason) == ("continue", "by requests; 0 is missing")
    else:
        assert (after.verdict, after.reason) == (verdict, "by requests")


@pytest.mark.parametrize("failures", [0, 1])
@pytest.mark.parametrize("before", [False, True])
def test_a_metric_out_of_its_limit_is_suspicious_before_it_is_bad(
    before: bool, failures: int
) -> None:
    judged = Judgement("continue", "by requests", suspicious=before)
    line = Line("queue", "undecided", "queue 900")
    after = with_metrics(judged, (line,), {"queue": Streak(failures)})
    assert after.suspicious == (before or failures > 0)


@pytest.mark.parametrize(
    ("written", "words"),
    [("< 1%", "< 1 %"), (">= 300ms", ">= 0.3 s"), ("> 0.1", "> 0.1"), ("<= 500", "<= 500")],
)
def test_limits_are_said_as_people_write_them(written: str, words: str) -> None:
    from volery.model.deploy import CustomMetric

    metric = CustomMetric.model_validate({"command": "./count", "limit": written})
    assert isinstance(metric.limit, Condition) and said(metric.limit) == words


def sent(state: str, text: str, number: float | None = 90) -> Answer:
    return Answer(state, text, number)  # type: ignore[arg-type]


FINE, WRONG = sent("yes", "90 sent, 0 failed"), sent("no", "90 sent, 90 failed, most by status_404")
DEEP = "synthetic GET /deep"


@pytest.mark.parametrize(
    ("new", "old", "state", "text"),
    [
        (None, None, "missing", f"{DEEP} not answered yet"),
        (FINE, sent("waiting", "", None), "missing", f"{DEEP} not answered yet"),
        (FINE, FINE, "good", f"{DEEP} 90 sent, 0 failed; to the old release 90 sent, 0 failed"),
        (FINE, WRONG, "undecided", "most by status_404: the old release gives no right answer"),
        (WRONG, WRONG, "undecided", "most by status_404: the old release gives no right answer"),
        (WRONG, FINE, "undecided", "0 failed: the new release gives no right answer"),
        (FINE, sent("broken", "9 sent"), "undecided", "the old release gives no right answer"),
    ],
)
def test_our_requests_are_told_and_hold_where_they_get_no_right_answer(
    new: Answer | None, old: Answer | None, state: str, text: str
) -> None:
    found = canary_world(synthetic=[{"path": "/deep"}])
    rollout = only(found)
    given_ = {"new": new, "old": old}
    answers = {request_key(rollout, 1, k): a for k, a in given_.items() if a is not None}
    assert all(key in asked_in(found) for key in answers)
    (line,) = request_lines(rollout, deploy_of(found), answers)
    assert (line.metric, line.state) == (DEEP, state)
    assert text in line.text
    assert line.n == (90 if new else 0)
    judged = with_metrics(Judgement("promote", "by requests"), (line,), {})
    assert judged.verdict == ("promote" if state == "good" else "continue")


def test_only_a_canary_has_requests_of_ours() -> None:
    found = canary_world(strategy="blue-green", synthetic=[{"path": "/deep"}])
    assert request_lines(only(found), deploy_of(found), {}) == ()
