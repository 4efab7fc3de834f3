"""One TCP connection, read exactly: every byte is accounted for, and an end is told from a reset.

It differs from asyncio's streams in one thing that the prober lives by: `usable()` says, right
before a request is sent, whether the server has already ended the connection or said something
unasked. It never retries and never interprets what it carries.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar, cast

from volery.prober.outcome import Failure, connecting_failed
from volery.prober.tally import Tally

_HIGH, _LOW = 256 * 1024, 64 * 1024

P = TypeVar("P", bound=asyncio.Protocol)


class Closed(Exception):
    """The connection ended while more was awaited; `reset`: not in order."""

    def __init__(self, reset: bool) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset

    def failure(self, cause: str, detail: str) -> Failure:
        """The failure this is: `cause` if the end was orderly."""
        return Failure("reset" if self.reset else cause, detail)


async def connect(factory: Callable[[], P], address: tuple[str, int]) -> P:
    """A connected protocol.

    Raises:
        Failure: no connection came about.
    """
    try:
        _, protocol = await asyncio.get_running_loop().create_connection(factory, *address)
    except OSError as error:
        raise connecting_failed(error) from error
    return protocol


def silent(transport: asyncio.BaseTransport) -> bool:
    """Whether the kernel holds nothing from the other side: no byte, no end, no reset."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
    return not poll.poll(0)


class Connection(asyncio.Protocol):
    """A TCP connection whose answers are read piece by piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended: Closed | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._blocked = False
        self._paused = False

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Connection:
        """A new connection. Raises Failure."""
        return await connect(cls, address)

    async def usable(self) -> bool:
        """Whether a request may be sent on it: open, and the server is silent."""
        idle = self._ended is None and not self._buffer and not self._transport.is_closing()
        return idle and silent(self._transport)

    def close(self) -> None:
        """End it at once."""
        self._transport.abort()

    async def leave(self) -> None:
        """End it between two requests."""
        self.close()

    @property
    def received(self) -> bool:
        """Whether bytes are waiting to be read."""
        return bool(self._buffer)

    async def send(self, data: bytes) -> None:
        """Send, waiting while the other side does not read. A lost connection shows in reading."""
        if self._ended is None and not self._transport.is_closing():
            self._transport.write(data)
        if self._blocked and self._ended is None:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def until(self, end: bytes, limit: int = _LOW) -> bytes:
        """Read up to and without `end`. Raises Closed, or Failure if it is too far."""
        start = 0
        while (found := self._buffer.find(end, start)) < 0:
            if len(self._buffer) > limit:
                raise Failure("malformed", f"no end of line or head in {limit} bytes")
            start = max(0, len(self._buffer) - len(end) + 1)
            await self._more()
        data = bytes(self._buffer[:found])
        self._consume(found + len(end))
        return data

    async def some(self, limit: int = _LOW) -> bytes:
        """Read what is there, at least one byte. Raises Closed."""
        if not self._buffer:
            await self._more()
        data = bytes(self._buffer[:limit])
        self._consume(len(data))
        return data

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        if self._paused and len(self._buffer) < _LOW:
            self._paused = False
            self._transport.resume_reading()

    async def _more(self) -> None:
        if self._ended:
            raise self._ended
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader
        if self._ended and not self._buffer:
            raise self._ended

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._buffer += data
        if len(self._buffer) > _HIGH:
            self._paused = True
            self._transport.pause_reading()
        self._wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._ended = Closed(reset=exc is not None)
        self._wake(self._reader)
        self._wake(self._writer)

    def pause_writing(self) -> None:
        """The other side does not read."""
        self._blocked = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._blocked = False
        self._wake(self._writer)

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Kept(Protocol):
    """A connection that can be used again."""

    async def usable(self) -> bool:
        """Whether a request may be sent on it. Raises Failure if it broke."""

    def close(self) -> None:
        """End it at once."""

    async def leave(self) -> None:
        """End it politely."""


K = TypeVar("K", bound=Kept)


class Pool(Generic[K]):
    """Kept connections of one stream, taken in turns. A request never waits for one."""

    def __init__(self, open_one: Callable[[], Awaitable[K]], tally: Tally) -> None:
        self._open = open_one
        self._tally = tally
        self._idle: deque[K] = deque()
        self._busy = 0

    async def take(self) -> K:
        """A connection on which nothing of a request has been sent yet. Raises Failure."""
        self._busy += 1
        try:
            return await self._kept() or await self._open()
        except BaseException:
            self._busy -= 1
            raise

    async def _kept(self) -> K | None:
        while self._busy + len(self._idle) > self._tally.stream.connections and self._idle:
            connection = self._idle.popleft()
            if await connection.usable():
                return connection
            connection.close()
            self._tally.retired += 1
        return None

    def give(self, connection: K) -> None:
        """It may be used again."""
        self._busy -= 1
        self._idle.append(connection)

    def drop(self, connection: K) -> None:
        """It may not."""
        self._busy -= 1
        connection.close()

    async def close(self) -> None:
        """Leave all that are idle."""
        await asyncio.gather(*(connection.leave() for connection in self._idle))
