"""Whether an instance's memory is on its way to its limit, so that it is replaced before it dies.

The trend is the median of the slopes between all pairs of measurements (Theil 1950, Sen 1968): a
third of them may be anything, such as a collection of garbage. It counts only where the order of
the measurements could hardly be chance (Mann 1945, Kendall), and only near the limit: what fills
its cache and stops there is not ill. Measurements are (monotonic seconds, bytes), oldest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from volery.model.healing import Ailment

KEPT = 120
POINTS = 30
FEWEST = 6
SURE = 3.0
"""Standard deviations that the order of the measurements must be from chance."""
NEAR = 0.7
"""Share of the limit from which on a trend is looked for."""
HALF = 0.5
"""Share of the limit from which on memory is measured often."""

Measurements = Sequence[tuple[float, float]]


def trend(measurements: Measurements) -> float:
    """Bytes a second that memory grows by; 0 where no growth is certain."""
    points = _some(measurements)
    if len(points) < FEWEST:
        return 0.0
    pairs = [
        (after[1] - before[1], after[0] - before[0])
        for index, before in enumerate(points)
        for after in points[index + 1 :]
        if after[0] > before[0]
    ]
    count = len(points)
    rising = sum((rise > 0) - (rise < 0) for rise, _ in pairs)
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    needed = min(SURE * deviation, 0.9 * len(pairs))  # few points can show no more than order
    if not pairs or rising < needed:
        return 0.0
    return max(0.0, median(rise / seconds for rise, seconds in pairs))


def _some(measurements: Measurements) -> Measurements:
    step = -(-len(measurements) // POINTS)
    return measurements[::-step][::-1] if step > 1 else measurements


def leaking(
    instance: str, measurements: Measurements, limit: float, horizon: float
) -> Ailment | None:
    """The ailment of an instance that reaches its limit (bytes) within `horizon` seconds."""
    if not measurements or measurements[-1][1] < NEAR * limit:
        return None
    slope = trend(measurements)
    now = measurements[-1][1]
    if slope <= 0 or (limit - now) / slope > horizon:
        return None
    left = max(0.0, (limit - now) / slope)
    mib = 2**20
    text = (
        f"{now / mib:.0f} of {limit / mib:.0f} MiB, growing by {slope / mib:.3g} MiB/s:"
        f" it would reach its limit in {left:.0f}s"
    )
    evidence = {"memory": now, "limit": limit, "bytes_per_second": slope, "seconds_left": left}
    return Ailment(instance, "leaking", text, {key: round(v, 3) for key, v in evidence.items()})
