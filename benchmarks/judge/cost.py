"""What a look costs in pure Python, on one core, without waiting."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from unit.decide.judge.traffic import GOOD, known, ticks

from volery.decide.judge import Policy, begin, decide, lines_of, look

LOOKS = 400


def cost(canary: int, control: int) -> dict[str, float]:
    """Microseconds of processor time of one look, one verdict and its lines, best of five rounds. A
    look is one tick of all comparisons."""
    policy = Policy()
    state = begin(policy, known(), 0.25)
    arms = list(islice(ticks(1, canary, control, GOOD), LOOKS))
    looks, judgements, lines = [], [], []
    for _ in range(5):
        start = time.process_time()
        for one, other in arms:
            state = look(policy, state, one, other, 1.0)
        middle = time.process_time()
        for _ in arms:
            decide(policy, state, 0.05, 0.25, 10.0)
        later = time.process_time()
        for _ in arms:
            lines_of(policy, state)
        looks.append((middle - start) / LOOKS * 1e6)
        judgements.append((later - middle) / LOOKS * 1e6)
        lines.append((time.process_time() - later) / LOOKS * 1e6)
    found = {"look": min(looks), "judge": min(judgements), "lines": min(lines)}
    return found | {"comparisons": len(state.counters)}


def costs() -> dict[str, Any]:
    """The cost at three sizes of a tick, as a row of the results."""
    sizes = {"1 + 199": (1, 199), "10 + 190": (10, 190), "100 + 100": (100, 100)}
    return {"kind": "cost", "ticks": {name: cost(*arms) for name, arms in sizes.items()}}
