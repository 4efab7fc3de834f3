"""Replay one history and print its story: `python -m simulation.replay SEED`, in tests/."""

from __future__ import annotations

import sys

from simulation.adapters import Violation
from simulation.history import History


def main() -> int:
    history = History(int(sys.argv[1]))
    try:
        history.play()
        verdict = "all invariants held"
    except Violation as violation:
        verdict = str(violation)
    for event in history.memory.events(limit=10**6):
        print(f"{event.at - 1_800_000_000:10.3f} {event.kind:24} {event.text}")
    print("\n".join(history.story))
    print(verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main())
