"""The Envoys of one environment: normally one, two while one replaces the other.

The newest serves. An older one has handed its sockets over, finishes what it has and is ended by
its successor; until then it is still told every change and still counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from volery.model.errors import VoleryError
from volery.supervise.identity import Identity as Process
from volery.traffic import sampler
from volery.traffic.admin import Admin, AdminError
from volery.traffic.proxy import (
    HOT_RESTART,
    PARENT_SECONDS,
    Proxy,
    identity,
    known,
    stand_in,
)
from volery.traffic.waiting import until

Serves = Callable[[Proxy], Awaitable[bool]]

START_SECONDS = 30.0
# A successor tells its predecessor to end when the drain time and this are over, counted from a
# moment before we see that it serves.
MARGIN_SECONDS = 0.5


class Fleet:
    """Starts, replaces and ends proxies."""

    def __init__(self, home: Path, drain_seconds: float) -> None:
        self._home = home
        self._drain_seconds = drain_seconds
        self._proxies: list[Proxy] = []
        self._starting = asyncio.Lock()

    def adopt(self) -> None:
        """Find the proxies that run already; clean up after those that do not."""
        self._proxies = []
        for proxy in known(self._home):
            if proxy.kept or proxy.pid:
                self._proxies.append(proxy)
            else:
                proxy.forget()

    @property
    def newest(self) -> Proxy | None:
        """The one that serves."""
        return self._proxies[-1] if self._proxies else None

    @property
    def running(self) -> list[Proxy]:
        """Those whose Envoy runs now."""
        return [proxy for proxy in self._proxies if proxy.pid]

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the proxies that run now."""
        return tuple(pid for proxy in self._proxies if (pid := proxy.pid))

    @property
    def shims(self) -> tuple[int, ...]:
        """Process ids of their shims."""
        return tuple(proxy.shim for proxy in self._proxies if proxy.shim)

    @property
    def admins(self) -> list[Admin]:
        """The admin interfaces of the proxies that run now."""
        return [proxy.admin for proxy in self.running]

    @property
    def admins_by_process(self) -> dict[Process, Admin]:
        """The same, by the process that answers."""
        return {who: proxy.admin for proxy in self._proxies if (who := proxy.who)}

    @property
    def replacing(self) -> bool:
        """Whether an older proxy is still finishing."""
        return len(self._proxies) > 1

    async def ensure(self) -> None:
        """Start a proxy unless one is there or is being restarted by its shim."""
        async with self._starting:
            newest = self.newest
            if newest is None or not (newest.kept or newest.pid):
                if newest is not None:
                    await self._dismiss(newest)
                self._begin(epoch=0)

    @property
    def needs_replacing(self) -> bool:
        """Whether the newest asks no control plane, or nobody would start it again."""
        newest = self.newest
        return newest is not None and bool(newest.pid) and (newest.fell_back or not newest.kept)

    def last_words(self) -> str:
        """What the newest wrote last, for people."""
        newest = self.newest
        text = newest.log.read_text(errors="replace") if newest and newest.log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
        return f": {lines[-1][:500]}" if lines else ""

    async def replace(self, serves: Serves) -> None:
        """Let a new Envoy take over from the newest; returns when the old one has ended."""
        old = self.newest
        if old is None or not old.pid:
            await self.ensure()
            return
        # Asking also opens the connection over which the old one can be counted from now on.
        self._begin(await old.epoch() + 1)
        await self.finish(serves)

    async def finish(self, serves: Serves) -> None:
        """Wait until the newest has taken over, give the older ones their time, and end them."""
        *older, new = self._proxies
        if not await until(lambda: serves(new), START_SECONDS):
            words = self.last_words()
            await self._dismiss(new)
            raise VoleryError(
                f"a new Envoy did not begin to serve, the old one goes on{words}",
                hint="volery doctor, and then volery restart gateway again",
            )
        for old in older:
            old.retire()
        limit = self._drain_seconds + PARENT_SECONDS + MARGIN_SECONDS
        begun = time.monotonic()

        async def ended() -> bool:
            return not any(old.pid for old in older)

        if await until(ended, limit):  # killed; the newest will speak to it all the same
            left = limit - (time.monotonic() - begun)
            await stand_in(self._home, identity(self._home), await new.epoch() - 1, left)
        for old in older:
            await self._dismiss(old)

    async def drain(self) -> None:
        """Take no new connection and wait until nothing is in flight, or for the drain time. One
        that is held up is asked again."""
        told: set[int] = set()

        async def idle() -> bool:
            try:
                for proxy in self.running:
                    if proxy.number not in told:
                        await proxy.admin.drain()
                        told.add(proxy.number)
                return not await sampler.sample(self.admins)
            except AdminError:
                return not self.running

        await until(idle, self._drain_seconds)

    async def stop(self) -> None:
        """End every proxy, a successor before its predecessor, and leave nothing behind."""
        for proxy in reversed(self._proxies.copy()):
            await self._dismiss(proxy)
        identity(self._home).shared_memory.unlink(missing_ok=True)
        for socket in self._home.glob(f"{HOT_RESTART}_*"):
            socket.unlink()

    async def hang_up(self) -> None:
        """Leave the proxies alone."""
        for proxy in self._proxies:
            await proxy.admin.close()

    def _begin(self, epoch: int) -> Proxy:
        number = max((proxy.number for proxy in known(self._home)), default=0) + 1
        proxy = Proxy(self._home, number)
        proxy.start(identity(self._home), epoch, self._drain_seconds)
        self._proxies.append(proxy)
        return proxy

    async def _dismiss(self, proxy: Proxy) -> None:
        await proxy.stop()
        proxy.forget()
        if proxy in self._proxies:
            self._proxies.remove(proxy)
