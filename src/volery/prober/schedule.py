"""When requests are due: decided before the first one is sent, whatever the answers do.

This is what makes the load *open-loop*: a slow answer delays no other request, so the latency
measured from the due time has no coordinated omission. It sends nothing and reads no clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from volery.prober.plan import ProbePlan, Stream


def due_times(plan: ProbePlan, stream: Stream) -> Iterator[float]:
    """Seconds from the start at which requests of a stream are due, ascending."""
    pick = random.Random(f"{plan.seed}:{stream.label}")  # noqa: S311 - load, not cryptography
    at = pick.random() / stream.rate
    while at < plan.seconds:
        yield at
        at += pick.expovariate(stream.rate) if plan.arrivals == "poisson" else 1 / stream.rate
