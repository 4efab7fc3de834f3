"""What is told of a canary while it goes on: a line when a step begins, and what let it pass."""

from __future__ import annotations

from typing import Any

import pytest

from volery.cli import follow
from volery.cli.follow import _going, _Story, exit_code, is_over
from volery.cli.standing import lacking

ERRORS = "errors 0 % against 0 %, n = 486, evidence 800:1 in favour"


def canary(phase: str, step: int, weight: float, **more: Any) -> dict[str, Any]:
    """A canary as the API tells it."""
    return {
        "id": "menu-r3",
        "service": "menu",
        "to": "menu@2",
        "strategy": "canary",
        "phase": phase,
        "step": step,
        "steps": 3,
        "weight": weight,
        "cause": "deploy",
        "verdict": "continue",
        "paused_for": None,
        "superseded_by": None,
        "reason": "",
        "evidence": [],
        "log": [],
        "seconds": {"build": 0.0, "test": 0.0, "start": 0.0, "shift": 0.0},
    } | more


class Ledger:
    """A control plane that knows why the second step began."""

    def __init__(self, verdict: str | None, cause: str) -> None:
        self.verdict = verdict
        self.cause = cause

    def get(self, path: str, **query: object) -> dict[str, Any]:
        data = {"rollout": "menu-r3", "step": 2, "verdict": self.verdict, "evidence": [ERRORS]}
        here = {"kind": "rollout.shifting", "data": data, "cause": self.cause}
        other = {"rollout": "menu-r2", "step": 2, "verdict": "abort", "evidence": []}
        return {
            "events": [
                {"kind": "instance.ready", "data": {}},
                {"kind": "rollout.shifting", "data": other},
                here,
            ]
        }


def told(
    capsys: pytest.CaptureFixture[str],
    verdict: str | None,
    *seen: dict[str, Any],
    cause: str = "deploy",
) -> str:
    """What is printed for these, one after the other."""
    story = _Story(Ledger(verdict, cause))  # type: ignore[arg-type]
    for item in seen:
        story.show([item])
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        ("promote", ERRORS),
        ("inconclusive", "without enough evidence"),
        ("continue", "by hand"),
    ],
)
def test_why_a_step_passed(capsys: pytest.CaptureFixture[str], verdict: str, why: str) -> None:
    text = told(
        capsys,
        verdict,
        canary("starting", 0, 0),
        canary("shifting", 1, 0),
        canary("analysing", 1, 20),
        canary("shifting", 2, 20),
        canary("analysing", 2, 50),
    )
    lines = text.splitlines()
    assert [line.split()[1] for line in lines] == ["starting", "analysing", "step", "analysing"]
    assert "step 1/3 passed after" in lines[2] and lines[2].endswith(f": {why}")
    assert "step 2/3, 50 % of requests" in lines[3]


def test_a_step_that_passed_for_want_of_an_old_release(capsys: pytest.CaptureFixture[str]) -> None:
    steps = canary("analysing", 1, 20), canary("analysing", 2, 50)
    text = told(capsys, "continue", *steps, cause="nothing of the old release serves")
    assert text.splitlines()[1].endswith(": nothing of the old release serves")


def test_a_step_that_was_too_quick_to_be_seen_between(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "promote", canary("analysing", 1, 20), canary("analysing", 2, 50))
    assert "step 1/3 passed after" in text and ERRORS in text


def test_the_reason_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"state": "bad", "text": "p95 318 ms against 8 ms"}
    more = {"reason": f"it is worse: {line['text']}", "verdict": "abort", "evidence": [line]}
    bad = canary("rolled_back", 1, 0, **more)
    text = told(capsys, None, canary("analysing", 1, 20), bad)
    assert text.count("p95 318 ms") == 1 and "because: it is worse" in text


def test_the_moving_line_says_what_is_needed() -> None:
    needed = "needs more evidence on p95: odds 2.4:1 of 20:1 in favour"
    assert _going(canary("analysing", 1, 20, reason=needed)) == f"menu step 1/3, 20 %: {needed}"
    assert _going(canary("rolling_back", 1, 0)) == "menu rolling back"


def service(**more: Any) -> dict[str, Any]:
    """A stateful service of which one instance is killed again and again."""
    there = [
        {"id": "db-0", "state": "ready", "detail": ""},
        {"id": "db-1", "state": "starting", "detail": "its shim starts"},
    ]
    primary = {"waits": None, "changing": False, "handover": None}
    trouble = "db-1 was killed 3 times"
    return {"instances": there, "trouble": trouble, "primary": primary, "waiting": []} | more


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "db-1 was killed 3 times"),
        ({"trouble": None}, "db-1 starting: its shim starts"),
        ({"trouble": None, "instances": [], "primary": None}, ""),
        (
            {"primary": {"waits": None, "changing": True, "handover": {"waits": "db-0 drains"}}},
            "db-1 was killed 3 times; db-0 drains",
        ),
        ({"waiting": [{"because": "1 is disturbed"}]}, "db-1 was killed 3 times; 1 is disturbed"),
    ],
)
def test_what_a_service_lacks(more: dict[str, Any], said: str) -> None:
    assert lacking(service(**more)) == said


def test_a_deploy_that_goes_on_quietly_says_once_what_it_waits_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plane:
        def get(self, path: str) -> dict[str, Any]:
            return {"services": {"menu": service()}}

    story = _Story(Plane())  # type: ignore[arg-type]
    story.show_lacking([canary("shifting", 1, 0)])
    assert not capsys.readouterr().err, "it has only begun"
    monkeypatch.setattr(follow, "QUIET_SECONDS", 0.0)
    story.show_lacking([canary("building", 1, 0)])
    assert not capsys.readouterr().err
    for _ in range(2):
        story.show_lacking([canary("shifting", 1, 0)])
    assert capsys.readouterr().err == "menu             waits: db-1 was killed 3 times\n"


def test_without_a_terminal_a_step_that_lasts_says_once_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    story = _Story(Ledger(None, ""))  # type: ignore[arg-type]
    silent = canary("analysing", 1, 5, reason="no request reached the new release yet")
    story.show_lacking([silent])
    assert not capsys.readouterr().err, "it has only begun"
    monkeypatch.setattr(follow, "ANALYSING_SECONDS", 0.0)
    for item in (silent, silent | {"reason": "3m more"}, silent | {"step": 2, "reason": "p95"}):
        story.show_lacking([item])
    assert capsys.readouterr().err.splitlines() == [
        "menu             waits: no request reached the new release yet",
        "menu             waits: p95",
    ]


def lines(state: str, *metrics: str) -> list[dict[str, Any]]:
    said = "nothing seen yet" if state == "missing" else "9 against 3"
    return [{"metric": name, "state": state, "text": f"{name}: {said}"} for name in metrics]


EVIDENCE = [*lines("bad", "p99"), *lines("missing", "errors", "p50")]


@pytest.mark.parametrize(
    ("phase", "verdict", "paused_for", "shown"),
    [
        ("rolled_back", "abort", None, ["p99: 9 against 3"]),
        ("rolled_back", None, None, []),
        (
            "rolled_back",
            "inconclusive",
            None,
            ["p99: 9 against 3", "errors, p50: nothing seen yet"],
        ),
        ("paused", "continue", "person", []),
        ("paused", "inconclusive", "person", []),
        ("paused", "continue", "gate", []),
        (
            "paused",
            "inconclusive",
            "evidence",
            ["p99: 9 against 3", "errors, p50: nothing seen yet"],
        ),
    ],
)
def test_evidence_is_shown_where_it_decided(
    capsys: pytest.CaptureFixture[str],
    phase: str,
    verdict: str | None,
    paused_for: str | None,
    shown: list[str],
) -> None:
    ended = canary(phase, 1, 20, reason="so it is", verdict=verdict, paused_for=paused_for)
    text = told(capsys, None, canary("analysing", 1, 20), ended | {"evidence": EVIDENCE})
    said = [line.strip() for line in text.splitlines()[2:] if "volery " not in line]
    assert said == ["because: so it is", *shown]


@pytest.mark.parametrize(
    ("seconds", "log", "told_of"), [(9.0, [], True), (0.0, [], False), (9.0, ["boom"], False)]
)
def test_where_to_read_what_a_release_wrote_that_had_requests(
    capsys: pytest.CaptureFixture[str], seconds: float, log: list[str], told_of: bool
) -> None:
    spent = {"build": 0.0, "test": 0.0, "start": 0.1, "shift": seconds}
    ended = canary("rolled_back", 1, 20, reason="x", verdict="abort", log=log, seconds=spent)
    text = told(capsys, None, canary("analysing", 1, 20), ended)
    assert ("volery logs menu --previous" in text) is told_of


@pytest.mark.parametrize(
    ("paused_for", "verbs"),
    [
        ("person", ["resume", "promote", "abort"]),
        ("gate", ["resume", "promote", "abort"]),
        ("evidence", ["resume", "promote", "abort"]),
        ("approval", ["promote", "abort"]),
    ],
)
def test_the_ways_on_are_those_that_work(
    capsys: pytest.CaptureFixture[str], paused_for: str, verbs: list[str]
) -> None:
    text = told(capsys, None, canary("paused", 1, 20, reason="x", paused_for=paused_for))
    words = " ".join(text.split())
    assert [
        verb for verb in ("resume", "promote", "abort") if f"volery {verb} menu" in words
    ] == verbs


@pytest.mark.parametrize(
    ("paused_for", "attended", "over"),
    [
        ("evidence", True, True),
        ("evidence", False, True),
        ("approval", True, False),
        ("approval", False, True),
        ("gate", True, False),
        ("gate", False, True),
        ("person", False, False),
    ],
)
def test_nobody_waits_for_a_person_who_is_not_there(
    paused_for: str, attended: bool, over: bool
) -> None:
    """Who paused it by hand is there, and goes on or takes it back."""
    held = canary("paused", 1, 20, paused_for=paused_for)
    behind = [
        canary("building", 0, 0, reason="waits for menu"),
        canary("analysing", 2, 50, reason="waits for menu"),
        canary("done", 3, 100),
    ]
    assert is_over([held], attended=attended) is over
    assert is_over([held, *behind], attended=attended) is over
    for reason in ("needs more evidence on p95", "waits for gate ./smoke.sh"):
        going = canary("analysing", 1, 20, reason=reason)
        assert not is_over([held, going], attended=attended)
    if over:
        assert exit_code([held]) == 5


@pytest.mark.parametrize(
    ("cause", "seconds", "said"),
    [
        ("deploy", 0.7, ["building menu@2", "starting (building took"]),
        ("deploy", 0.0, ["building menu@2", "starting"]),
        ("restart", 0.0, ["starting menu@2"]),
        ("rollback", 0.0, ["starting menu@2"]),
    ],
)
def test_building_is_told_where_something_is_built(
    capsys: pytest.CaptureFixture[str], cause: str, seconds: float, said: list[str]
) -> None:
    spent = {"build": seconds, "test": 0.0, "start": 0.0, "shift": 0.0}
    more = {"cause": cause, "seconds": spent}
    text = told(capsys, None, canary("building", 0, 0, **more), canary("starting", 0, 0, **more))
    lines = [line.removeprefix("menu").strip() for line in text.splitlines()]
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))
    assert ("took" in text) == (seconds > 0)
