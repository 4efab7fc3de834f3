"""How many requests are in flight for each instance, counted honestly.

A proxy acknowledges on its main thread and its workers follow within milliseconds, and a request
that waits for a connection belongs to no host yet. So a draining instance counts as idle only if
two looks, `APART_SECONDS` apart, both found nothing active and nothing new, and nothing waits for
its cluster. The pure half, `merge`, decides; the other half asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from volery.traffic.admin import Admin, HostCount
from volery.traffic.clusters import tcp_cluster

APART_SECONDS = 0.05
TCP_SUFFIX = tcp_cluster("")

Hosts = Mapping[tuple[str, str], HostCount]


@dataclass(frozen=True)
class Look:
    """One proxy's counts at one moment, and the clusters for which requests wait."""

    hosts: Hosts
    waiting: frozenset[str]


def merge(pairs: Iterable[tuple[Look, Look]]) -> dict[str, int]:
    """In flight per instance, over all proxies; each has been looked at twice."""
    total: Counter[str] = Counter()
    for first, second in pairs:
        for key in first.hosts.keys() | second.hosts.keys():
            cluster, instance = key
            if instance:
                total[instance] += _in_flight(cluster, first, second, key)
    return {instance: count for instance, count in sorted(total.items()) if count}


async def sample(admins: Iterable[Admin]) -> dict[str, int]:
    """Look at every proxy, twice where something drains. Raises AdminError if one is silent."""
    asked = list(admins)
    first = second = await _looks(asked)
    if any(map(_drains, first)):
        await asyncio.sleep(APART_SECONDS)
        second = await _looks(asked)
    return merge(zip(first, second, strict=True))


async def _looks(admins: Iterable[Admin]) -> tuple[Look, ...]:
    """Look at every proxy once. Raises AdminError if one does not answer."""
    return tuple(await asyncio.gather(*map(_look, admins)))


def _drains(seen: Look) -> bool:
    return any(count.draining for count in seen.hosts.values())


def _in_flight(cluster: str, first: Look, second: Look, key: tuple[str, str]) -> int:
    before, after = first.hosts.get(key, HostCount()), second.hosts.get(key, HostCount())
    now, earlier = after.requests, before.requests
    if cluster.endswith(TCP_SUFFIX):
        now, earlier = after.connections, before.connections
    if now or not after.draining:
        return now
    moved = earlier > 0 or before.total != after.total
    connecting = cluster in second.waiting and after.connections > 0
    return int(moved or connecting)


async def _look(admin: Admin) -> Look:
    """What waits is asked for only where it matters; first, or it could slip through between."""
    hosts = await admin.hosts()
    if not any(count.draining for count in hosts.values()):
        return Look(hosts, frozenset())
    waiting = await admin.waiting()
    return Look(await admin.hosts(), waiting)
