"""How many events are kept: the newest ones, pruned rarely and in bulk."""

from __future__ import annotations

EVENTS_KEPT = 200_000
SLACK = 0.02
"""How far above the limit the ledger may grow before it is pruned, as a fraction of it."""


def expired(oldest: int, newest: int, keep: int) -> int:
    """The highest sequence number to delete now, 0 for none. Numbers have no gaps."""
    surplus = newest - oldest + 1 - keep
    return newest - keep if surplus > keep * SLACK else 0
