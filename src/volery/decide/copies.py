"""Whether copies of requests are like the requests they are compared with.

Unless all methods are asked for, only GET, HEAD and OPTIONS are copied. Where users send much else,
which may take another time and fail for other reasons, the copies are compared with nothing: only
the alarms are asked, and if none rings the release gets its first share, where it is compared.

Copies are counted when they are answered. One that is not answered yet must not look like one that
was never made, so they are counted anew once each of the first ones has been answered or given up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

ALIKE = 0.9
"""Copies are like all requests if so many of those that are due are there."""
GIVEN_UP_SECONDS = 60.0
ENOUGH_SECONDS, FEWEST = 120.0, 40
"""So long and with so many copies no alarm may ring where there is nothing else to ask."""


@dataclass(frozen=True)
class Copies:
    """How many copies were answered, and how many would have been if all requests were copied;
    `anew` says that both are counted for the second time."""

    answered: int = 0
    due: float = 0.0
    anew: bool = False

    @property
    def are_some(self) -> bool:
        """Whether they are not of all kinds of requests."""
        return self.answered < ALIKE * self.due


NONE = Copies()


def counted(copies: Copies, answered: int, due: float, seconds: float) -> Copies:
    """The copies after one more tick, `seconds` after the first one."""
    if seconds >= GIVEN_UP_SECONDS and not copies.anew:
        copies = Copies(anew=True)
    return replace(copies, answered=copies.answered + answered, due=copies.due + due)
