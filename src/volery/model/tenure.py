"""Who is the primary of a stateful service, and how that changes, as immutable documents.

A *tenure* is one per stateful service with roles: the instance that is the primary and its *term*,
a number that grows with every promotion and is handed to each instance as VOLERY_TERM: the fencing
token. A *handover* is a change of primary under way, journaled step by step: whoever goes on with
it after a crash reads here how far it is. The document outlives the service, as volumes do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from volery.model.guard import Cause
from volery.model.state import SlotName

Role = Literal["primary", "replica", "syncing"]
REPLICAS = "+replicas"
"""Added to the name of a service: its replicas, as a need of their own in the data plane."""


class Step(StrEnum):
    """Where a handover is. `decide.stateful.handover.TRANSITIONS` says what may follow what."""

    BACKUP = "backup"
    """The primary's `backup` runs."""
    DEMOTE = "demote"
    """The primary's `demote` runs."""
    WITHDRAW = "withdraw"
    """The primary is taken out of rotation."""
    STOP = "stop"
    """It is stopped politely."""
    FENCE = "fence"
    """It is killed."""
    CATCH_UP = "catch_up"
    """It is dead; the replicas take in what is still on its way to them."""
    PROMOTE = "promote"
    """The successor's `switchover` runs, until its role is `primary`."""
    DONE = "done"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class Handover:
    """A change of primary. `out` must be dead before anybody is promoted; `number` tells it from
    every other one of the service, `term` is what the successor gets."""

    number: int
    kind: Literal["failover", "switchover"]
    step: Step
    out: str
    term: int
    because: str
    began_at: float
    cause: Cause = "heal"
    """Who wants it: the guard asks."""
    by: str = ""
    """Who asked for it; empty if nobody did."""
    to: str = ""
    """The instance that was asked for."""
    successor: str = ""
    attempt: int = 0
    """Counts the runs of `switchover`."""
    failures: dict[str, int] = field(default_factory=dict)
    """How often each instance could not be promoted."""
    returns: bool = False
    """Whether `out` may start again, as a replica, before anybody is promoted."""
    waits: str = ""
    """Why it does not go on now."""
    told: str = ""
    """The last such reason that was worth an event."""
    reason: str = ""
    """Why it was abandoned, or will be once the primary, demoted already, is stopped: its next
    start takes that back."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.step in (Step.DONE, Step.ABANDONED)


@dataclass(frozen=True)
class Claim:
    """An instance that claims to be the primary out of turn and is killed for it, with the group
    it belongs to."""

    slot: SlotName
    release: str
    since: float
    times: int = 0
    """How often it was killed since."""
    not_before: float = 0.0
    """Unix seconds before which the same group does not start it again."""
    text: str = ""
    """What it claims, and who is right."""


@dataclass(frozen=True)
class Tenure:
    """Who is the primary of one service. `handover` is the one under way, or the last one."""

    service: str
    primary: str
    term: int
    since: float
    handover: Handover | None = None
    numbers: int = 0
    """How many handovers there were."""
    backed_up: str = ""
    """The rollout before which `backup` was run last."""
    not_before: float = 0.0
    """Unix seconds before which Volery begins no switchover by itself, as the last one failed."""
    given_up: int = 0
    """How many such switchovers were given up in a row,"""
    given_up_in: str = ""
    """and in which rollout; empty outside of one."""
    waits: str = ""
    """Why what should be done is not: in words for people, empty if nothing waits."""
    claims: dict[str, Claim] = field(default_factory=dict)
    """Who claims to be the primary out of turn, by instance."""
    furthest: int = 0
    """How far the primary's data was when that was last written down; 0 after `down`."""
    emptied: bool = False
    """Whether all volumes were deleted by somebody's word since there was a primary: so this one
    may begin without data, which would else be the loss of everything."""

    @property
    def changing(self) -> Handover | None:
        """The handover under way."""
        return self.handover if self.handover and not self.handover.ended else None
