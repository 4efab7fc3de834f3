"""What the guard remembers: whom it lets disturb what, who waits, and which brakes are on.

One document for each environment (kind and key "guard"), changed in the same transaction as what it
let pass, so a crash between any two steps neither forgets a disturbance nor counts one twice.

Terms: a *disturbance* is an instance that was serving and is taken away before somebody else can do
its work; an *action* is something automation did; a *brake* stops automation in a scope (one
service, or `EVERYTHING`) until it is released or its time is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal["rollout", "heal", "scale", "chaos", "person", "leaving"]
"""Who wants something: a rollout, healing, another size, an experiment, a person's command, or the
service goes for good (`down`, removed from the manifest)."""
EVERYTHING = "*"
"""The scope of a brake that stops the automation of the whole environment."""
LONGEST_SECONDS = 30 * 86400.0
"""Nobody stops automation for longer at once."""


@dataclass(frozen=True)
class Action:
    """One automatic action, and whether it helped. `at` is Unix seconds."""

    kind: Literal["heal", "rollback", "scale"]
    service: str
    at: float
    helped: bool
    text: str = ""
    """In one line: what was done, and what was seen afterwards."""
    machine: bool = False
    """It failed because of the machine, not of the service: the whole environment is braked."""


@dataclass(frozen=True)
class Brake:
    """Automation stands still in a scope. A lease: at `until` (Unix seconds) it ends by itself."""

    scope: str
    since: float
    until: float
    because: str
    by: str = ""
    """The person who stopped it; "" if it stopped itself."""


@dataclass(frozen=True)
class Waiting:
    """A request that does not pass yet: why, and what would release it."""

    instance: str
    service: str
    cause: Cause
    ticket: int
    """Tickets are given in order; the oldest of equal rank goes first."""
    since: float
    wish: str
    """Why it is wanted."""
    because: str
    until: str
    """What would release it."""


@dataclass(frozen=True)
class Disturbance:
    """An instance that was let go while it was needed, until its service has its size again."""

    instance: str
    service: str
    cause: Cause
    since: float


@dataclass(frozen=True)
class GuardState:
    """All of it. `failures` are the newest automatic actions that did not help."""

    failures: tuple[Action, ...] = ()
    brakes: tuple[Brake, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    disturbed: tuple[Disturbance, ...] = ()
    passed: tuple[float, ...] = ()
    """When disturbances were let pass, within the window of the velocity limit."""
    tickets: int = 0
