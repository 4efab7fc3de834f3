"""Reads the counters of every proxy: of attended services twice a second, of others rarely.

What a proxy is called in a `Sample` is made of its process id and start time, the same for every
control plane, so counters that begin anew have a new name. A proxy that does not answer keeps what
it said last: nothing new is known of it, and where none answers there is no new sample. One that
ended is left out.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from volery.decide.evidence import (
    began_after,
    proxy_key,
    service_of_edge,
    service_of_group,
    service_of_served,
)
from volery.model.evidence import Counters, ProxySample, Sample
from volery.supervise.identity import Identity
from volery.traffic import counters
from volery.traffic.admin import Admin, AdminError

ATTENDED_SECONDS = 0.5
OTHERS_SECONDS = 10.0
# A look that is due in less than this is due.
SLACK_SECONDS = 0.05

log = logging.getLogger(__name__)


class Meter:
    """Keeps the newest sample."""

    def __init__(self) -> None:
        self.sample = Sample()
        self._attended: frozenset[str] = frozenset()
        self._read_at = self._read_all_at = float("-inf")

    def attend(self, services: frozenset[str]) -> None:
        """Read these services about twice a second; a new one at the next occasion."""
        if services - self._attended:
            self._read_at = float("-inf")
        self._attended = services

    @property
    def attends(self) -> bool:
        """Whether some services are to be read often."""
        return bool(self._attended)

    async def read(self, proxies: Mapping[Identity, Admin]) -> bool:
        """Read what is due of the proxies that run. False if nothing was, or none answered."""
        now = time.monotonic()
        everything = _due(self._read_all_at, OTHERS_SECONDS, now)
        if not everything and not (self._attended and _due(self._read_at, ATTENDED_SECONDS, now)):
            return False
        self._read_at = now
        self._read_all_at = now if everything else self._read_all_at
        services = None if everything else self._attended
        found = {
            _name(who): await self._of(_name(who), admin, services)
            for who, admin in proxies.items()
        }
        if proxies and not any(answered for _, answered in found.values()):
            return False
        self.sample = Sample(
            number=self.sample.number + 1,
            at=time.monotonic(),
            proxies={name: seen for name, (seen, _) in found.items() if seen is not None},
        )
        return True

    async def _of(
        self, name: str, admin: Admin, services: frozenset[str] | None
    ) -> tuple[ProxySample | None, bool]:
        """What is known of a proxy, and whether it answered."""
        before = self.sample.proxies.get(name)
        if before is None:
            # One that has just begun had counted nothing then, whenever it first answers.
            before = ProxySample() if began_after(name, self.sample) else None
            services = None
        try:
            answer = await admin.ask(counters.query(services))
            after = counters.proxy_sample(answer, await admin.hosts())
        except (AdminError, ValueError) as error:
            log.debug("counters of %s cannot be read: %s", name, error)
            return before, False
        return (after if before is None else merged(before, after, services)), True


def merged(before: ProxySample, after: ProxySample, services: frozenset[str] | None) -> ProxySample:
    """What was read of all, with what was read later: of some services, or None for all."""
    groups, edges = _steady_groups(before, after), _steady(before.edges, after.edges)
    return ProxySample(
        groups=_merged(before.groups, groups, services, service_of_group),
        instances=after.instances,
        edges=_merged(before.edges, edges, services, service_of_edge),
        rough=_merged(before.rough, after.rough, services, service_of_group),
        served=_merged(before.served, after.served, services, service_of_served),
    )


def _merged(
    before: Mapping[str, Counters],
    after: Mapping[str, Counters],
    services: frozenset[str] | None,
    owner: Callable[[str], str],
) -> dict[str, Counters]:
    kept = {} if services is None else {k: v for k, v in before.items() if owner(k) not in services}
    return kept | dict(after)


def _steady_groups(before: ProxySample, after: ProxySample) -> dict[str, Counters]:
    """A caller's part of a group's failures ends with its edge; then they may be fewer."""
    fewer = {
        service_of_edge(name)
        for name, then in before.edges.items()
        if name not in after.edges or after.edges[name].requests < then.requests
    }
    then = {
        name: seen for name, seen in before.groups.items() if service_of_group(name) not in fewer
    }
    return _steady(then, after.groups)


def _steady(before: Mapping[str, Counters], after: Mapping[str, Counters]) -> dict[str, Counters]:
    """Failures are a difference of statistics that are not read at one moment: seen once is seen,
    or they would be counted again."""
    found = dict(after)
    for name, now in after.items():
        then = before.get(name)
        if then is not None and now.requests >= then.requests and now.failures < then.failures:
            found[name] = replace(now, failures=then.failures)
    return found


def _due(at: float, period: float, now: float) -> bool:
    return now >= at + period - SLACK_SECONDS


def _name(who: Identity) -> str:
    """Process and start; the kernel counts that in ticks, and time asleep as well, as we do not."""
    asleep = round(time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic())
    return proxy_key(who.pid, who.ticks / os.sysconf("SC_CLK_TCK") - asleep)
