"""Stateful services with roles: who is the primary, and how that changes without losing a write.

`steward` decides all of it in one call; `failover` says when a primary is lost, `handover` how the
next one takes over step by step, `choice` who that is, `holds` what must wait for it.
"""

from volery.decide.stateful.situation import Decided, Given, Note
from volery.decide.stateful.steward import by_hand, role_watches, steward, wishes, without_data

__all__ = [
    "Decided",
    "Given",
    "Note",
    "by_hand",
    "role_watches",
    "steward",
    "wishes",
    "without_data",
]
