"""Made-up traffic for the tests of the judge: seeded, independent requests."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from volery.decide.judge import History, empty, remember
from volery.model.evidence import Arm, bucket


@dataclass(frozen=True)
class Release:
    """How a release behaves: share of failures, latencies (median 40 ms, p99 257 ms) times
    `slower`, those of the slowest 2 % times `tail` in addition."""

    errors: float = 0.001
    slower: float = 1.0
    tail: float = 1.0


GOOD = Release()


def arm(source: random.Random, requests: int, release: Release = GOOD, instances: int = 1) -> Arm:
    """One tick of exactly so many requests."""
    latency: dict[int, int] = {}
    for _ in range(requests):
        z = source.gauss(0, 1)
        ms = 40 * 2.718281828 ** (0.8 * z) * release.slower * (release.tail if z > 2.05 else 1)
        latency[bucket(ms)] = latency.get(bucket(ms), 0) + 1
    failures = sum(source.random() < release.errors for _ in range(requests))
    return Arm(requests, failures, latency, float(instances))


def known(seed: int = 1, rate: int = 200, seconds: int = 120, release: Release = GOOD) -> History:
    """The history of a service of three instances after some stable traffic."""
    source, history = random.Random(seed), empty()
    for _ in range(seconds):
        whole = arm(source, rate, release, 3)
        failed = [source.randrange(3) for _ in range(whole.failures)]
        parts = [Arm(rate // 3, failed.count(index), {}, 1.0) for index in range(3)]
        history = remember(history, [replace(parts[0], latency=whole.latency), *parts[1:]], 1.0)
    return history


def ticks(seed: int, canary: int, control: int, release: Release) -> Iterator[tuple[Arm, Arm]]:
    """Both arms, tick after tick, without end."""
    source = random.Random(seed)
    while True:
        yield arm(source, canary, release), arm(source, control, GOOD)
