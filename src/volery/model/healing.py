"""What is found to be wrong with an instance, and the durable record of mending it.

An *ailment* is what an instance suffers from now, with the numbers that say so. A *heal* is one
attempt to mend one: it is opened with the decision, *acting* until what was decided is done,
*watching* until it is known whether it helped, and ends with a verdict. `machine` is the ailment of
a whole environment: the same crash in services that have nothing to do with each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from volery.model.state import SlotName

Kind = Literal[
    "exited",
    "orphaned",
    "hung",
    "not_alive",
    "unready",
    "errors",
    "slow",
    "stalled",
    "leaking",
    "old",
    "machine",
]
Verdict = Literal["", "helped", "not_helped", "moot"]

IN_WORDS: dict[Kind, str] = {
    "exited": "it ended by itself",
    "orphaned": "what keeps it has died",
    "hung": "it accepts and never answers",
    "not_alive": "its liveness probe fails",
    "unready": "it has not been ready for too long",
    "errors": "it fails more requests than its siblings",
    "slow": "it is slower than its siblings",
    "stalled": "it finishes nothing while its siblings do",
    "leaking": "its memory grows towards its limit",
    "old": "it has reached its maximal age",
    "machine": "the same crash in unrelated services",
}


@dataclass(frozen=True)
class Ailment:
    """What is wrong with one instance, in one line, and the numbers behind it."""

    instance: str
    kind: Kind
    text: str
    evidence: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Heal:
    """One attempt to mend one ailment of a service.

    `also` are other instances that had the same ailment when it began: they do not count against
    it. `beside` are all instances of the group then. `done` says what was done, `successor` who
    took the place. Times are Unix seconds.
    """

    id: str
    service: str
    kind: Kind
    instance: str
    slot: SlotName
    release: str
    text: str
    created_at: float
    since: float
    evidence: dict[str, float] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    phase: Literal["acting", "watching", "ended"] = "acting"
    done: str = ""
    successor: str = ""
    verdict: Verdict = ""
    why: str = ""
    finished_at: float | None = None

    @property
    def ended(self) -> bool:
        """Whether its verdict is known."""
        return self.phase == "ended"
