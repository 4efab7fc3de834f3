"""Replay one history and print its story, in tests/: `python -m simulation.replay SEED [KIND]`;
kinds are deploys, guard, sickness and stateful."""

from __future__ import annotations

import sys
from collections.abc import Callable

from simulation.guarded import GuardedHistory
from simulation.history import History
from simulation.room import Room, violation_of
from simulation.sickness import Sickness
from simulation.stateful import StatefulHistory

HISTORIES: dict[str, Callable[[int], Room]] = {
    "deploys": History,
    "guard": GuardedHistory,
    "sickness": Sickness,
    "stateful": StatefulHistory,
}


def main() -> int:
    history = HISTORIES[(sys.argv[2:] or ["deploys"])[0]](int(sys.argv[1]))
    verdict = violation_of(history) or "all invariants held"
    for event in history.memory.events(limit=10**6):
        print(f"{event.at - 1_800_000_000:10.3f} {event.kind:24} {event.text}")
    print("\n".join(history.story))
    print(verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main())
