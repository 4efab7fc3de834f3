"""What a newcomer is told of each way a release can end."""

from __future__ import annotations

from typing import Any

from volery.demo.story import Story

ERRORS: dict[str, Any] = {
    "metric": "errors",
    "state": "bad",
    "text": "errors 20 % against 0 %, evidence 1,300:1 against",
    "evidence": 1300.0,
    "n": 140,
}
SLOW: dict[str, Any] = ERRORS | {"metric": "p95", "text": "p95 318 ms against 7.7 ms"}


def rollout(phase: str, **more: Any) -> dict[str, Any]:
    """A rollout as the API tells it."""
    return {
        "from": "catalog@1",
        "to": "catalog@2",
        "strategy": "canary",
        "phase": phase,
        "step": 1,
        "steps": 3,
        "reason": "",
        "evidence": [],
        "log": [],
        "seconds": {"build": 0.0, "test": 0.5, "start": 1.0, "shift": 4.2},
    } | more


def told(story: Story) -> str:
    """All its lines."""
    return "\n".join(story.lines())


def test_a_good_one() -> None:
    text = told(Story(rollout("done", evidence=[ERRORS | {"state": "good"}])))
    assert "catalog@2 passed 2 steps, each as soon as the evidence sufficed" in text
    assert "errors 20 %" in text and "users harmed   none" in text
    assert "0.5s to test" in text or "500ms to test" in text


def test_one_that_went_on_without_enough_evidence_is_not_called_proven() -> None:
    text = told(Story(rollout("done"), undecided=1))
    assert "without enough evidence" in text and "sufficed" not in text


def test_one_that_fails_requests() -> None:
    bad = rollout("rolled_back", reason="it fails requests", evidence=[ERRORS])
    text = told(Story(bad, frozenset({"a", "b"})))
    assert "was taken back in step 1 of 3; catalog@1 serves" in text
    assert "1,300:1 against" in text and "2 failed requests" in text and "4.2s with users" in text


def test_one_that_is_slow_harms_users_without_failing_any() -> None:
    bad = rollout("rolled_back", reason="it is slow: " + SLOW["text"], evidence=[SLOW])
    text = told(Story(bad))
    assert "no request failed, but 140 were answered slowly" in text
    assert text.count("p95") == 1, "the reason says it already"


def test_one_that_no_user_met() -> None:
    spent = {"build": 0.0, "test": 0.0, "start": 0.0, "shift": 0.0}
    text = told(Story(rollout("rolled_back", reason="exit code 1", seconds=spent, log=["trace"])))
    assert "refused before it got a request" in text and "it took" not in text
    assert "trace" not in text


def test_one_that_waits() -> None:
    assert "catalog@2 is paused" in told(Story(rollout("paused", reason="not enough evidence")))
