"""What happened to a release, in words for somebody who sees it for the first time.

Everything is taken from the rollout as the control plane tells it, and from the record of requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from volery.model.units import format_duration

Json = dict[str, Any]


@dataclass(frozen=True)
class Story:
    """How a rollout ended, which requests of users the release failed (by id), and how many steps
    it passed though the evidence did not suffice in time."""

    rollout: Json
    harmed: frozenset[str] = field(default_factory=frozenset)
    undecided: int = 0

    def lines(self) -> list[str]:
        """What happened, why, on which evidence, whom it harmed, and how long it took."""
        rollout = self.rollout
        said = rollout["log"][-1:] if rollout["seconds"]["shift"] else []
        told = [
            ("what happened", self._what()),
            ("why", rollout["reason"]),
            *(("it said", text) for text in said),
            *(("evidence", text) for text in _evidence(rollout)),
            ("users harmed", self._harm()),
            ("it took", _took(rollout)),
        ]
        return [f"  {name:13}  {text}" for name, text in told if text]

    def _what(self) -> str:
        new, old = self.rollout["to"], self.rollout["from"]
        match self.rollout["phase"]:
            case "done" if self.rollout["strategy"] == "canary":
                return f"{new} passed {self.rollout['steps'] - 1} steps{self._how()}, and serves"
            case "done":
                return f"{new} serves"
            case "rolled_back" if self.rollout["seconds"]["shift"]:
                step, steps = self.rollout["step"], self.rollout["steps"]
                return f"{new} was taken back in step {step} of {steps}; {old} serves"
            case "rolled_back":
                return f"{new} was refused before it got a request; {old} serves"
            case phase:
                return f"{new} is {phase.replace('_', ' ')}"

    def _how(self) -> str:
        if not self.undecided:
            return ", each as soon as the evidence sufficed"
        return f" ({self.undecided} without enough evidence in time, as `on_inconclusive` says)"

    def _harm(self) -> str:
        count, slow = len(self.harmed), _slow(self.rollout)
        if count:
            return f"{count} failed request{'s' if count > 1 else ''}, by the new release's doing"
        return f"no request failed, but {slow} were answered slowly" if slow else "none"


def _worst(rollout: Json) -> Json | None:
    """The line that speaks most against a release that was taken back."""
    if rollout["phase"] == "done":
        return None
    bad = [line for line in rollout["evidence"] if line["state"] == "bad"]
    return max(bad, key=lambda line: line["evidence"], default=None)


def _evidence(rollout: Json) -> list[str]:
    """Against a release the worst line; in favour of one what was compared."""
    if rollout["phase"] == "done":
        return [line["text"] for line in rollout["evidence"] if line["state"] == "good"][:2]
    worst = _worst(rollout)
    return [worst["text"]] if worst and worst["text"] not in rollout["reason"] else []


def _slow(rollout: Json) -> int:
    """How many requests a release got that was taken back because it is slow."""
    worst = _worst(rollout)
    return int(worst["n"]) if worst and worst["metric"].startswith("p") else 0


def _took(rollout: Json) -> str:
    words = {"build": "to build", "test": "to test", "start": "to start", "shift": "with users"}
    spent = {key: value for key, value in rollout["seconds"].items() if value}
    return ", ".join(f"{format_duration(value)} {words[key]}" for key, value in spent.items())
