"""A memory changes nothing but the work."""

from __future__ import annotations

from volery.traffic.memo import Memo


def test_it_is_made_again_only_when_what_it_is_made_of_differs() -> None:
    memo: Memo[list[str]] = Memo()
    first = memo.get("web", (1, "a"), lambda: ["one"])
    assert memo.get("web", (1, "a"), lambda: ["never"]) is first
    assert memo.get("web", (2, "a"), lambda: ["two"]) == ["two"]
    assert memo.get("api", (2, "a"), lambda: ["three"]) == ["three"]


def test_what_nobody_asked_for_is_forgotten() -> None:
    memo: Memo[str] = Memo()
    memo.get("web", 1, lambda: "old")
    memo.get("api", 1, lambda: "old")
    memo.sweep()
    memo.get("web", 1, lambda: "new")
    memo.sweep()
    assert memo.get("web", 1, lambda: "new") == "old"
    assert memo.get("api", 1, lambda: "new") == "new"
