"""`EnvoyTraffic`: the Traffic port, done by Envoy.

`apply` and `observe` only note a wish and tell what is known; two background tasks do the work. One
carries the newest wish to the proxies, stage by stage, each acknowledged before the next, and goes
back to what they had if one refuses. The other looks at the proxies: do they run, do they serve,
what is in flight. What was acknowledged is written down twice: as a configuration, from which the
next control plane goes on, and as Envoy's *fallback*, with which its shim starts it when no control
plane is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from volery.model.errors import Code, VoleryError
from volery.model.evidence import Sample
from volery.model.ports import TrafficConfig, TrafficStatus
from volery.model.state import SlotName
from volery.supervise.moments import pause
from volery.traffic import bootstrap, calm, clusters, counters, sampler, xds
from volery.traffic.addresses import EdgePorts, check_port, listened_on
from volery.traffic.admin import AdminError
from volery.traffic.ads import DiscoveryServer
from volery.traffic.files import write_atomically
from volery.traffic.fleet import Fleet
from volery.traffic.meter import ATTENDED_SECONDS, SLACK_SECONDS, Meter
from volery.traffic.proxy import ADS_SOCKET, BOOTSTRAP, FALLBACK, Proxy
from volery.traffic.waiting import until

APPLIED = "applied.json"
EDGES = "edges.json"
DRAIN_SECONDS = 15.0
# Workers follow the main thread's acknowledgement within this time; the sampler allows for more.
SETTLE_SECONDS = 0.02
FAST_SECONDS = 0.02
SLOW_SECONDS = 1.0
# What is in flight matters where something drains.
CALM_SECONDS = 5.0
RETRY_SECONDS = 1.0
DELIVER_SECONDS = 30.0

log = logging.getLogger(__name__)
_CONFIG = TypeAdapter(TrafficConfig)


class EnvoyTraffic:
    """Routes requests of one environment."""

    def __init__(
        self, home: Path, wake: Callable[[], None], drain_seconds: float = DRAIN_SECONDS
    ) -> None:
        self._home = home
        self._wake = wake
        self._ads = DiscoveryServer(home / ADS_SOCKET)
        self._fleet = Fleet(home, drain_seconds)
        self._ports = EdgePorts(home / EDGES)
        self._status = TrafficStatus()
        self._wish: tuple[TrafficConfig, int] | None = None
        self._wished = asyncio.Event()
        self._look_now = asyncio.Event()
        self._in_force = TrafficConfig()
        self._snapshot = xds.Snapshot()
        self._compiler = xds.Compiler()
        self._fallbacks = bootstrap.Fallbacks()
        self._meter = Meter()
        self._failures = calm.Failures(time.monotonic())
        self._lent_at = float("-inf")
        self._unwritten: dict[str, bytes] = {}
        self._write_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._replacing = asyncio.Lock()
        self._mending: asyncio.Task[None] | None = None

    # --- the port -----------------------------------------------------------------------------

    def apply(self, config: TrafficConfig, generation: int) -> None:
        """Make this the configuration. Generations only grow; an older one is ignored."""
        if self._wish is None or generation > self._wish[1]:
            self._wish = (config, generation)
            self._wished.set()
            self._tell(rejected=None)

    def observe(self) -> TrafficStatus:
        """What is acknowledged and in flight now."""
        return self._status

    @property
    def defect(self) -> BaseException | None:
        """What ended the work in the background, if anything did: this is only half alive then."""
        ended = (task for task in self._tasks if task.done() and not task.cancelled())
        return next((task.exception() for task in ended), None)

    def shims(self) -> tuple[int, ...]:
        """The process ids of the proxies' shims."""
        return self._fleet.shims

    def edge_port(self, caller: str, slot: SlotName, need: str) -> int:
        """The loopback port of an edge: chosen once, the same for ever in this environment."""
        return self._ports.port(caller, slot, need)

    def attend(self, services: frozenset[str]) -> None:
        """Sample these services about twice a second and wake for it, all others when there is
        time."""
        self._meter.attend(services)

    def sample(self) -> Sample:
        """The newest counters."""
        return self._meter.sample

    # --- life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take over the proxies that run, with what they were told last."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._home.chmod(0o700)
        _write_if_other(self._home / BOOTSTRAP, bootstrap.with_ads(ADS_SOCKET).encode())
        self._wish, self._status = None, TrafficStatus()
        self._fleet.adopt()
        self._tell(proxies=self._fleet.pids)
        self._recall()
        told = {port for _, port in xds.addresses(self._snapshot)}
        self._ports.open(told or listened_on(self._fleet.pids))
        await self._ads.open()
        self._tasks = [
            asyncio.create_task(self._drive(), name="traffic: drive"),
            asyncio.create_task(self._watch(), name="traffic: watch"),
        ]

    async def close(self) -> None:
        """Let go: the proxies keep serving what they have."""
        await self._end_tasks()
        await self._fleet.hang_up()
        await self._ads.close()
        self._ports.close()

    async def stop(self) -> None:
        """Take no new connection, let what is in flight finish within the drain time, end Envoy."""
        await self._end_tasks()
        await self._fleet.drain()
        await self._fleet.stop()
        self._forget()
        await self._ads.close()
        self._ports.close()
        self._tell(ready=False, proxies=(), in_flight={})

    async def replace(self) -> None:
        """Let a new Envoy take over without refusing a connection; returns when the old ended."""
        async with self._replacing:
            try:
                await self._fleet.replace(self._serves)
            except AdminError as error:
                raise VoleryError(
                    "the gateway is busy or just coming back: it does not answer",
                    code=Code.CONFLICT,
                    hint="it goes on serving; when status says ready: volery restart gateway",
                ) from error
        self._look_now.set()

    async def _serves(self, proxy: Proxy) -> bool:
        return self._ads.settled(proxy.node) and await proxy.admin.ready()

    async def _end_tasks(self) -> None:
        ending = [*self._tasks, *([self._mending] if self._mending else [])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._tasks, self._mending = [], None

    # --- carrying out wishes ------------------------------------------------------------------

    async def _drive(self) -> None:
        while True:
            await self._wished.wait()
            self._wished.clear()
            assert self._wish is not None
            config, generation = self._wish
            try:
                await self._carry_out(config, generation)
            except (VoleryError, OSError) as error:
                self._tell(rejected=_words(error))
                await self._pause(self._wished, RETRY_SECONDS)
                self._wished.set()

    async def _carry_out(self, config: TrafficConfig, generation: int) -> None:
        target = self._compiled(config)
        self._check_ports(target)
        await self._fleet.ensure()
        for stage in xds.stages(self._snapshot, target):
            if not await self._deliver(stage):
                self._check_ports(target)
                return
            if self._wished.is_set() and stage != target:
                return
        if await self._deliver(target):
            if not await until(self._all_have_it, DELIVER_SECONDS):
                raise VoleryError(f"an Envoy does not follow{self._fleet.last_words()}")
            self._in_force = config
            self._remember()
            self._tell(acknowledged=generation, rejected=None)
            self._look_now.set()

    async def _deliver(self, stage: xds.Snapshot) -> bool:
        """Whether every proxy accepted; if one did not, all have been told to go back."""
        try:
            async with asyncio.timeout(DELIVER_SECONDS):
                refusal = await self._ads.deliver(stage)
                if refusal is None:
                    self._snapshot = stage
                    return True
                again = await self._back()
        except TimeoutError:
            raise VoleryError(f"Envoy does not answer{self._fleet.last_words()}") from None
        if again is not None:
            log.error("Envoy refused to go back: %s", again)
        self._tell(rejected=refusal.strip())
        return False

    async def _back(self) -> str | None:
        """What the proxies had before, unless that is unknown: they keep what they accepted."""
        if self._snapshot == xds.Snapshot():
            return None
        return await self._ads.deliver(self._snapshot)

    async def _all_have_it(self) -> bool:
        """Also one that asks nobody, because it runs on its fallback, must be gone first."""
        return all(self._ads.settled(proxy.node) for proxy in self._fleet.running)

    def _compiled(self, config: TrafficConfig) -> xds.Snapshot:
        try:
            return self._compiler.snapshot(config)
        except ValueError as error:
            raise VoleryError(f"the configuration of the data plane is wrong: {error}") from error

    def _check_ports(self, target: xds.Snapshot) -> None:
        """Nobody else may listen where Envoy is about to; see `addresses`."""
        if target.types[xds.LISTENERS] == self._snapshot.types[xds.LISTENERS]:
            return
        for host, port in sorted(xds.addresses(target) - xds.addresses(self._snapshot)):
            check_port(host, port, self._fleet.pids, edge=port in self._ports)

    def _remember(self) -> None:
        """For Envoy's restart without us, and for our own."""
        self._unwritten = {
            FALLBACK: self._fallbacks.of(self._snapshot),
            APPLIED: _CONFIG.dump_json(self._in_force),
        }
        self._write_at = 0.0
        self._write_down()

    def _write_down(self) -> None:
        """Also what a full disk has refused before."""
        now = time.monotonic()
        if now < self._write_at:
            return
        try:
            self._ports.write()
            for name in list(self._unwritten):
                write_atomically(self._home / name, self._unwritten[name])
                del self._unwritten[name]
        except OSError as error:
            self._write_at = now + RETRY_SECONDS
            log.error("what Envoy was told cannot be written down: %s", error)

    def _forget(self) -> None:
        """What a proxy did that runs no more is nothing to fall back to."""
        self._in_force, self._snapshot = TrafficConfig(), xds.Snapshot()
        self._unwritten = {}
        for name in (FALLBACK, APPLIED):
            (self._home / name).unlink(missing_ok=True)

    def _recall(self) -> None:
        applied = self._home / APPLIED
        if self._fleet.newest is None:
            self._forget()
        if not applied.exists():
            return
        try:
            self._in_force = _CONFIG.validate_json(applied.read_bytes())
        except ValueError as error:  # written by another version
            log.error("what Envoy was told last cannot be read: %s", error)
            return
        self._snapshot = self._compiler.snapshot(self._in_force)
        self._ads.offer(self._snapshot)

    # --- looking ------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except (AdminError, VoleryError, OSError, ValueError) as error:
                log.debug("cannot count what is in flight: %s", error)
            if await self._meter.read(self._fleet.admins_by_process) and self._meter.attends:
                self._wake()
            await self._lend()
            self._write_down()
            await self._pause(self._look_now, self._until_next_look())
            self._look_now.clear()

    async def _look(self) -> None:
        generation = self._status.acknowledged
        if not self._replacing.locked():
            if generation:
                await self._fleet.ensure()
            if self._fleet.replacing or self._fleet.needs_replacing:
                self._mending = asyncio.create_task(self._mend(), name="traffic: mend")
        if self._attentive():
            await asyncio.sleep(SETTLE_SECONDS)
        begun = time.monotonic()
        newest = self._fleet.newest
        told = generation > 0 or self._snapshot != xds.Snapshot()
        ready = told and newest is not None and await newest.admin.ready()
        self._tell(ready=ready, proxies=self._fleet.pids)
        if not self._attentive() and begun < self._status.sampled_at + CALM_SECONDS:
            return
        in_flight = await sampler.sample(self._fleet.admins)
        self._tell(in_flight=in_flight, sampled=generation, sampled_at=begun)

    async def _lend(self) -> None:
        """Tell the proxies of which services nothing fails; who could not be asked is told nothing,
        and has every breaker soon."""
        now = time.monotonic()
        if now < self._lent_at + calm.LOOK_SECONDS - SLACK_SECONDS:
            return
        self._lent_at = now
        try:
            counted = {
                f"{who.pid}@{who.ticks}": counters.failing(await admin.ask(counters.FAILING))
                for who, admin in self._fleet.admins_by_process.items()
            }
        except (AdminError, ValueError) as error:
            log.debug("what fails cannot be read: %s", error)
            return
        self._failures.heard(counted, now)
        services, edges = self._in_force.services, self._in_force.edges
        budgets = clusters.budgets(services, edges)
        self._ads.lend(calm.lease(self._failures.calm(services, now), budgets))

    async def _mend(self) -> None:
        """End a replacement that was interrupted, or begin one that is needed."""
        try:
            async with self._replacing:
                if self._fleet.replacing:
                    await self._fleet.finish(self._serves)
                elif self._fleet.needs_replacing:
                    await self._fleet.replace(self._serves)
        except (VoleryError, AdminError, OSError) as error:
            log.warning("Envoy should be replaced and could not: %s", error)
        self._look_now.set()

    def _until_next_look(self) -> float:
        if self._attentive():
            return FAST_SECONDS
        return ATTENDED_SECONDS if self._meter.attends else pause(SLOW_SECONDS)

    def _attentive(self) -> bool:
        """Whether something is about to change that somebody waits for."""
        status = self._status
        return self._fleet.newest is not None and (
            not status.ready
            or status.sampled < status.acknowledged
            or self._fleet.replacing
            or _drains(self._in_force)
        )

    def _tell(self, **news: Any) -> None:
        before, self._status = self._status, replace(self._status, **news)
        if replace(before, sampled_at=0.0) != replace(self._status, sampled_at=0.0):
            self._wake()

    async def _pause(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


def _drains(config: TrafficConfig) -> bool:
    return any(
        endpoint.draining
        for service in config.services.values()
        for group in service.slots.values()
        for endpoint in group.endpoints
    )


def _write_if_other(path: Path, content: bytes) -> None:
    """On a full disk there is no room for the same again."""
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def _words(error: Exception) -> str:
    if isinstance(error, VoleryError):
        return "; ".join(part for part in (error.message, error.hint) if part)
    return str(error)
