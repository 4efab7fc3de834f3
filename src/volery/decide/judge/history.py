"""What is known of the old release from before: its rates, and how far from independent events are.

A *spread* measures over-dispersion: bad events in windows of a fixed length, compared between parts
of the same release that got the same requests (across), or between one window and the next (along).
The latter counts the ups and downs of time in, so it is used only where there is nothing to compare
across. All memory fades (rates with 3 minutes, spreads and latencies with 15) and is bounded.
This module never judges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from volery.decide.judge.policy import LEVELS
from volery.decide.judge.starts import UNKNOWN, Start, Youth, older
from volery.decide.judge.tails import above, edges
from volery.model.evidence import Arm, Latency

RATE_SECONDS = 180.0
SPREAD_SECONDS = 900.0
LULL_SECONDS = 30.0
"""Time without requests beyond this says nothing of how many there are when there are some."""
SHORT, LONG = 5.0, 60.0
PARTS = 3
PRIOR_PHI, PRIOR_WEIGHT = 1.5, 5.0
"""Before anything was seen, events are taken to be a little clumped."""
DOUBT_PHI, DOUBT_WEIGHT = 2.0, 5.0
"""For promotion the prior is sceptical: a thin history must not vouch for a release."""
CAUTION = 1.2
"""What was measured from few events may be too low by so many standard deviations, roughly."""
LEAST_PHI, LEAST_PHI_SLOW = 1.0, 0.5
LARGEST_PHI = 30.0
"""What is further from independent events is an instance that was ill or a service that was away. A
new release is taken back for that, so it is nothing to expect of a good one."""
MOST_EVENTS, MOST_USUAL = 5.0, 10.0
"""One window counts for no more than so many due events, or so many times as many as usual: a
minute of trouble must not hide what is known of the hours around it."""
EVERY_SECONDS = 60.0
"""So often the latency edges follow the old release."""
FEW = 1e-5
"""Buckets with a smaller share of all requests are forgotten."""


class Rate(NamedTuple):
    """Exposure and bad events, both fading."""

    n: float = 0.0
    k: float = 0.0

    def per(self) -> float:
        """Bad events per unit of exposure, never exactly 0: at first one in a thousand."""
        return (self.k + 0.05) / (self.n + 50.0)

    def after(self, n: float, k: float, seconds: float) -> Rate:
        """With one more tick."""
        keep = math.exp(-seconds / RATE_SECONDS)
        return Rate(self.n * keep + n, self.k * keep + k)


NOTHING = Rate()
Parts = tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """Squared differences seen (`seen`) and what independent events would have had (`due`), without
    ailments; `rough` is both with all there was.

    `n`, `k` are what each part has in the window so far, `before` the whole of the last window."""

    window: float
    elapsed: float = 0.0
    n: Parts = ()
    k: Parts = ()
    before: tuple[float, float] = (0.0, 0.0)
    seen: float = 0.0
    due: float = 0.0
    rough: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Metric:
    """What is known of one kind of bad event."""

    rate: Rate = NOTHING
    across: tuple[Spread, ...] = ()
    along: tuple[Spread, ...] = ()


def _both() -> tuple[Spread, ...]:
    return (Spread(SHORT), Spread(LONG))


@dataclass(frozen=True)
class History:
    """All that is kept of a service's stable traffic. A few kilobytes as JSON, however long.

    `traffic` is (seconds, requests), fading; for `idle` seconds there were none; `latency` a fading
    histogram; `levels` the edge and the share above it of each latency level; `start` how cold the
    live `release` was at first, `youth` what is known of that so far."""

    seconds: float = 0.0
    traffic: Rate = NOTHING
    idle: float = 0.0
    errors: Metric = field(default_factory=lambda: Metric(across=_both(), along=_both()))
    latency: Mapping[int, float] = field(default_factory=dict)
    edges: Mapping[float, int] = field(default_factory=dict)
    slow: Mapping[float, Metric] = field(default_factory=dict)
    edged_at: float = 0.0
    exits: Rate = NOTHING
    saturation: Rate = NOTHING
    probes: Rate = NOTHING
    release: str = ""
    youth: Youth | None = None
    start: Start = UNKNOWN


def empty() -> History:
    """Nothing is known."""
    return History()


def of_release(history: History, release: str, start: Start | None) -> History:
    """The history from here on of this release, whose start is known, or watched if it is None."""
    youth = Youth() if start is None else None
    return replace(history, release=release, youth=youth, start=start or UNKNOWN)


def requests_per_second(history: History) -> float | None:
    """The traffic that was seen last; None if hardly any was."""
    return history.traffic.k / history.traffic.n if history.traffic.k >= 1 else None


def remember(history: History, parts: Sequence[Arm], seconds: float) -> History:
    """The history after one more tick of stable traffic.

    `parts` are pieces of one release that share its requests alike, in a stable order, and together
    are all of it: its instances, or one whole group. Latency may be known of all of them or, where
    only the group's is known, given with one part. Parts without requests are left out of the
    comparison. Call it once a tick; a tick without requests adds nothing but time.
    """
    counts = [(float(part.requests), float(part.failures)) for part in parts]
    n = sum(count[0] for count in counts)
    up = sum(part.instance_seconds for part in parts)
    idle = 0.0 if n > 0 else history.idle + seconds
    timed = replace(
        history,
        seconds=history.seconds + seconds,
        idle=idle,
        traffic=(
            history.traffic.after(seconds, n, seconds) if idle <= LULL_SECONDS else history.traffic
        ),
        exits=history.exits.after(up, sum(part.exits for part in parts), seconds),
        saturation=history.saturation.after(
            up, sum(part.saturated_seconds for part in parts), seconds
        ),
        probes=history.probes.after(up, sum(part.unready_seconds for part in parts), seconds),
    )
    if history.youth is not None:
        youth, start = older(history.youth, parts, seconds)
        timed = replace(timed, youth=youth, start=start)
    if n <= 0:
        return timed
    return _slower(
        replace(timed, errors=_learn(timed.errors, counts, seconds)),
        [part.latency for part in parts if part.latency],
        seconds,
    )


def _learn(metric: Metric, counts: Sequence[tuple[float, float]], seconds: float) -> Metric:
    n, k = sum([c[0] for c in counts]), sum([c[1] for c in counts])
    folded = _folded(counts)
    return Metric(
        metric.rate.after(n, k, seconds),
        tuple([_across(spread, folded, seconds) for spread in metric.across]),
        tuple([_along(spread, n, k, seconds) for spread in metric.along]),
    )


def _folded(counts: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Parts put together to at most three, so that memory stays bounded."""
    if len(counts) <= PARTS:
        return list(counts)
    folded = [(0.0, 0.0)] * PARTS
    for index, (n, k) in enumerate(counts):
        before = folded[index % PARTS]
        folded[index % PARTS] = (before[0] + n, before[1] + k)
    return folded


def _across(spread: Spread, counts: Sequence[tuple[float, float]], seconds: float) -> Spread:
    """One tick more; when the window is full, how unlike its parts were."""
    nothing = (0.0,) * len(counts)
    same = len(spread.n) == len(counts)
    n0, k0, elapsed = (spread.n, spread.k, spread.elapsed) if same else (nothing, nothing, 0.0)
    n = tuple([so_far + count[0] for so_far, count in zip(n0, counts, strict=True)])
    k = tuple([so_far + count[1] for so_far, count in zip(k0, counts, strict=True)])
    elapsed += seconds
    if elapsed < spread.window - 1e-9:
        return _with(spread, elapsed, n, k)
    return _with(_measured(spread, n, k, elapsed), 0.0, nothing, nothing)


def _along(spread: Spread, n: float, k: float, seconds: float) -> Spread:
    """One tick more; when the window is full, how unlike the one before it was."""
    whole = (spread.n[0] + n, spread.k[0] + k) if spread.n else (n, k)
    elapsed = spread.elapsed + seconds
    if elapsed < spread.window - 1e-9:
        return _with(spread, elapsed, (whole[0],), (whole[1],))
    pair = _measured(spread, (spread.before[0], whole[0]), (spread.before[1], whole[1]), elapsed)
    return replace(pair, elapsed=0.0, n=(), k=(), before=whole)


def _with(spread: Spread, elapsed: float, n: Parts, k: Parts) -> Spread:
    """A window that goes on. Written out, as `replace` takes twice as long and this is done for
    every level of every service at every look."""
    return Spread(
        spread.window, elapsed, n, k, spread.before, spread.seen, spread.due, spread.rough
    )


def _measured(spread: Spread, n: tuple[float, ...], k: tuple[float, ...], elapsed: float) -> Spread:
    """One window more. The more of its requests are bad the less it tells: where all are, parts
    cannot differ."""
    if min(n) <= 0:
        return spread
    keep = math.exp(-elapsed / SPREAD_SECONDS)
    total, events = sum(n), sum(k)
    shares = [part / total for part in n]
    seen = sum((part - share * events) ** 2 for part, share in zip(k, shares, strict=True))
    due = events * sum(share * (1 - share) for share in shares)
    most = max(MOST_EVENTS, MOST_USUAL * spread.due * (1 - keep))
    weight = (1 - events / total) * min(1.0, most / due if due > 0 else 1.0)
    return replace(
        spread,
        seen=spread.seen * keep + weight * min(seen, LARGEST_PHI * due),
        due=spread.due * keep + weight * due,
        rough=(spread.rough[0] * keep + seen, spread.rough[1] * keep + due),
    )


def _slower(history: History, latencies: Sequence[Latency], seconds: float) -> History:
    if not latencies:
        return history
    keep = math.exp(-seconds / SPREAD_SECONDS)
    histogram = {bucket: weight * keep for bucket, weight in history.latency.items()}
    for latency in latencies:
        for bucket, number in latency.items():
            histogram[bucket] = histogram.get(bucket, 0.0) + number
    few = FEW * sum(histogram.values())
    histogram = {bucket: weight for bucket, weight in histogram.items() if weight >= few}
    due = not history.edges or history.seconds >= history.edged_at + EVERY_SECONDS
    known = _edged(history, histogram) if due else history
    return replace(known, latency=histogram, slow=_learn_slow(known, latencies, seconds))


def _edged(history: History, histogram: Mapping[int, float]) -> History:
    """New edges; a window that began with another edge is not finished."""
    found = edges(histogram, LEVELS)
    same = {level for level, edge in found.items() if history.edges.get(level) == edge}
    slow = {
        level: metric if level in same else _begun_anew(metric)
        for level, metric in history.slow.items()
    }
    return replace(history, edges=found, slow=slow, edged_at=history.seconds)


def _begun_anew(metric: Metric) -> Metric:
    across, along = (
        tuple(replace(s, elapsed=0.0, n=(), k=(), before=(0.0, 0.0)) for s in spreads)
        for spreads in (metric.across, metric.along)
    )
    return Metric(metric.rate, across, along)


def _learn_slow(
    history: History, latencies: Sequence[Latency], seconds: float
) -> dict[float, Metric]:
    at = list(history.edges.values())
    counts = [above(latency, at) for latency in latencies]
    totals = [float(sum(latency.values())) for latency in latencies]
    fresh = Metric(across=_both(), along=_both())
    return {
        level: _learn(
            history.slow.get(level, fresh),
            [(total, float(count[index])) for total, count in zip(totals, counts, strict=True)],
            seconds,
        )
        for index, level in enumerate(history.edges)
    }


def over_dispersion(metric: Metric, prior: float, weight: float, frozen: bool) -> float:
    """How many times larger the variance of bad events is than that of independent ones.

    Across parts where there are any, along time where not. Where the control is `frozen`, along
    time over long windows as well, with all ups and downs, in which it has no share. A prior of
    `weight` due events stands for what was not seen.
    """
    compared = metric.across if any(spread.due > 0 for spread in metric.across) else ()
    calm = [(spread.seen, spread.due) for spread in compared or metric.along[:1]]
    most = max(_over(*one, prior, weight) for one in calm or [(0.0, 0.0)])
    found = [min(most, LARGEST_PHI)]
    if frozen:
        found += [_over(*spread.rough, prior, weight) for spread in metric.along]
    return max(found)


def _over(seen: float, due: float, prior: float, weight: float) -> float:
    return (seen + prior * weight) / (due + weight) * (1 + CAUTION / math.sqrt(due + weight))
