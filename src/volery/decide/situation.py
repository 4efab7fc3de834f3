"""What a rollout's step may know besides the documents: observed groups, evidence, gates, turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from volery.decide.strategy import View
from volery.model.evidence import Judgement
from volery.model.ports import BuildStatus


@dataclass(frozen=True)
class GateState:
    """Whether the gates at a point of a rollout let it pass."""

    state: Literal["open", "wait", "hold", "abort"] = "open"
    text: str = ""


def no_gates(point: str) -> GateState:
    """Every point is open."""
    del point
    return GateState()


@dataclass(frozen=True)
class Situation:
    """What `decide.rollout.step` may know besides the documents."""

    view: View
    build: BuildStatus | None
    built: bool
    """The release has an artifact that passed its tests."""
    turn: Literal["wait", "go", "abort"]
    """Whether the rollouts it belongs together with let it start."""
    turn_reason: str = ""
    judged: Judgement | None = None
    """What the evidence says; None while nothing is compared or the evidence is old."""
    gate: Callable[[str], GateState] = no_gates
    """The state of a point's gates."""
    behind: str = ""
    """Whom it must wait for before it takes the last step, if anybody."""
