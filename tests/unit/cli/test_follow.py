"""What is told of a canary while it goes on: a line when a step begins, and what let it pass."""

from __future__ import annotations

from typing import Any

import pytest

from volery.cli.follow import _going, _Story

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
        "reason": "",
        "evidence": [],
        "log": [],
    } | more


class Ledger:
    """A control plane that knows why the second step began."""

    def __init__(self, verdict: str | None) -> None:
        self.verdict = verdict

    def get(self, path: str, **query: object) -> dict[str, Any]:
        data = {"rollout": "menu-r3", "step": 2, "verdict": self.verdict, "evidence": [ERRORS]}
        other = {"rollout": "menu-r2", "step": 2, "verdict": "abort", "evidence": []}
        return {
            "events": [
                {"kind": "instance.ready", "data": {}},
                {"kind": "rollout.shifting", "data": other},
                {"kind": "rollout.shifting", "data": data},
            ]
        }


def told(capsys: pytest.CaptureFixture[str], verdict: str | None, *seen: dict[str, Any]) -> str:
    """What is printed for these, one after the other."""
    story = _Story(Ledger(verdict))  # type: ignore[arg-type]
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


def test_a_step_that_was_too_quick_to_be_seen_between(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "promote", canary("analysing", 1, 20), canary("analysing", 2, 50))
    assert "step 1/3 passed after" in text and ERRORS in text


def test_the_reason_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"state": "bad", "text": "p95 318 ms against 8 ms"}
    bad = canary("rolled_back", 1, 0, reason=f"it is worse: {line['text']}", evidence=[line])
    text = told(capsys, None, canary("analysing", 1, 20), bad)
    assert text.count("p95 318 ms") == 1 and "because: it is worse" in text


def test_the_moving_line_says_what_is_needed() -> None:
    needed = "needs more evidence on p95: odds 2.4:1 of 20:1 in favour"
    assert _going(canary("analysing", 1, 20, reason=needed)) == f"menu step 1/3, 20 %: {needed}"
    assert _going(canary("rolling_back", 1, 0)) == "menu rolling back"
