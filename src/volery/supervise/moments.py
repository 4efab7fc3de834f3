"""Common moments: whoever looks again and again does it when the others do. To wake up once for
many costs less than to wake up for each.
"""

from __future__ import annotations

import time

APART = 0.2
"""Of the time between two looks. Not the whole: what is asked at one moment answers at one moment,
and takes the processors for as long as all of it takes."""


def pause(every: float) -> float:
    """Seconds from now to the common moment that is nearest to `every` from now."""
    now, apart = time.monotonic(), every * APART
    return round((now + every) / apart) * apart - now
