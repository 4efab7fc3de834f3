"""The table of a rollout's phases, and how one is entered. The docs' diagram is drawn from it.

A rollout is *building* and *testing* until its release exists, *starting* until the new group is
ready without requests, *shifting* while weights change, *analysing* while evidence is gathered,
*paused* while a person or a gate holds it, *promoting* once the new group has everything, and
*rolling_back* on its way back. One to the release that serves is *done* as soon as its turn comes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from volery.model.state import Phase, Rollout

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.BUILDING: frozenset(
        {Phase.TESTING, Phase.STARTING, Phase.PAUSED, Phase.DONE, Phase.ROLLED_BACK, Phase.FAILED}
    ),
    Phase.TESTING: frozenset({Phase.STARTING, Phase.PAUSED, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.STARTING: frozenset({Phase.SHIFTING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}),
    Phase.SHIFTING: frozenset({Phase.ANALYSING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}),
    Phase.ANALYSING: frozenset({Phase.SHIFTING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}),
    Phase.PAUSED: frozenset(
        {
            Phase.BUILDING,
            Phase.TESTING,
            Phase.STARTING,
            Phase.SHIFTING,
            Phase.ANALYSING,
            Phase.PROMOTING,
            Phase.ROLLING_BACK,
            Phase.ROLLED_BACK,
            Phase.FAILED,
        }
    ),
    Phase.PROMOTING: frozenset({Phase.DONE, Phase.ROLLING_BACK}),
    Phase.ROLLING_BACK: frozenset({Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.DONE: frozenset(),
    Phase.ROLLED_BACK: frozenset(),
    Phase.FAILED: frozenset(),
}
"""Which phase may follow which."""

Waits = Literal["person", "gate", "approval", "evidence"]
UNBEGUN = (Phase.BUILDING, Phase.TESTING)
_TIMED = {Phase.STARTING: "start", Phase.SHIFTING: "shift", Phase.ANALYSING: "shift"}


def enter(rollout: Rollout, phase: Phase, now: float) -> Rollout:
    """The rollout in another phase, the time spent in the one before added up."""
    if phase not in TRANSITIONS[rollout.phase]:
        raise AssertionError(f"{rollout.id}: {rollout.phase} -> {phase} is not in the table")
    seconds = dict(rollout.seconds)
    key = _TIMED.get(rollout.phase)
    if key:
        seconds[key] = round(seconds.get(key, 0.0) + max(0.0, now - rollout.since), 3)
    ended = not TRANSITIONS[phase]
    return replace(
        rollout,
        phase=phase,
        paused_for="",
        since=now,
        finished_at=now if ended else None,
        seconds=seconds,
    )


def pause(rollout: Rollout, now: float, reason: str, waits: Waits = "person") -> Rollout:
    """Hold where it is until `resume` or `promote`; bad evidence still takes it back."""
    held = enter(rollout, Phase.PAUSED, now)
    return replace(held, resume_to=rollout.phase, reason=reason, paused_for=waits)


def resume(rollout: Rollout, now: float) -> Rollout:
    """Go on where it was paused; gates are asked anew."""
    going = enter(rollout, rollout.resume_to or Phase.SHIFTING, now)
    return replace(going, resume_to=None, reason="", attempt=rollout.attempt + 1)


def is_return(rollout: Rollout) -> bool:
    """Whether it brings back what served before."""
    return rollout.cause in ("rollback", "heal")


def has_begun(rollout: Rollout) -> bool:
    """Whether anything of the new release may run already."""
    phase = rollout.resume_to if rollout.phase is Phase.PAUSED else rollout.phase
    return phase not in UNBEGUN
