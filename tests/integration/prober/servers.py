"""Servers that misbehave on purpose, and count what they did."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from unittest import mock

from volery.prober import Kind, ProbePlan, ProbeReport, Stream, probe

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
T = TypeVar("T")
SCHEMES = {Kind.LINE: "tcp", Kind.WEBSOCKET: "ws"}


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """A TCP server on a free loopback port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the prober has gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.contextmanager
def in_thread(server: contextlib.AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Hold an asynchronous context open in a thread of its own."""
    inside: Future[T] = Future()
    end = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def hold() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            async with server as value:
                inside.set_result(value)
                await end.wait()
        except BaseException as error:
            if not inside.done():
                inside.set_exception(error)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        yield inside.result()
    finally:
        if thread.is_alive():
            loops[0].call_soon_threadsafe(end.set)
        thread.join()


def plan_for(kind: Kind, port: int, **options: Any) -> ProbePlan:
    """40 requests in a steady row."""
    path = options.pop("path", "/")
    settings: dict[str, Any] = {"rate": 100.0, "timeout": 10.0, **options}
    url = f"{SCHEMES.get(kind, 'http')}://127.0.0.1:{port}{path}"
    return ProbePlan((Stream(kind, url, **settings),), 0.4, "constant")


class _Unpaused:
    """Time that goes on by no more than a moment from look to look: whatever stands still, the
    prober and its servers do so together, and what is due meanwhile does not come all at once."""

    def __init__(self) -> None:
        self._seen, self._now = time.monotonic(), 0.0

    def monotonic(self) -> float:
        seen = time.monotonic()
        self._now, self._seen = self._now + min(seen - self._seen, 0.03), seen
        return self._now

    def time(self) -> float:
        return time.time()


def steady() -> Any:
    """The prober's requests are sent one by one, also on a busy machine."""
    return mock.patch("volery.prober.run.time", _Unpaused())


def probed(kind: Kind, handler: Handler, **options: Any) -> ProbeReport:
    """The report of a short probe against a handler."""

    async def run() -> ProbeReport:
        async with listening(handler) as port:
            return await probe(plan_for(kind, port, **options))

    with contextlib.nullcontext() if "span" in options else steady():
        report = asyncio.run(run())
    assert report.sent == 40
    assert report.ok + report.lost == 40
    return report


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a TCP reset."""
    transport = writer.transport
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


OK = b"HTTP/1.1 200 OK\r\nx-release: demo@1\r\ncontent-length: 5\r\n\r\nhello"


class Http1Server:
    """Answers HTTP/1.1; every `every`-th request of all gets the trick instead.

    A trick maps to the bytes of its answer and how the connection goes on.
    """

    TRICKS: Mapping[str, tuple[bytes, str]] = {
        "none": (OK, "keep"),
        "503": (b"HTTP/1.1 503 No\r\ncontent-length: 11\r\n\r\nno upstream", "keep"),
        "close": (b"", "close"),
        "reset": (b"", "reset"),
        "half head": (b"HTTP/1.1 200 OK\r\ncontent-le", "close"),
        "short body": (OK[:-2], "close"),
        "reset in body": (OK[:-2], "reset"),
        "no last chunk": (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "close"
        ),
        "half chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", "close"),
        "bad chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "close"),
        "garbage": (b"SSH-2.0-hello\r\n\r\n", "close"),
        "silence": (b"", "wait"),
        "connection: close": (
            OK.replace(b"x-release", b"connection: close\r\nx-release"), "close"
        ),
        "close when idle": (OK, "close"),
        "reset when idle": (OK, "reset"),
        "says 408 when idle": (OK + b"HTTP/1.1 408 Late\r\ncontent-length: 0\r\n\r\n", "close"),
        "no framing": (b"HTTP/1.1 200 OK\r\n\r\nhello", "close"),
        "http/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", "close"),
        "interim": (b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK, "keep"),
        "no content": (b"HTTP/1.1 204 No\r\n\r\n", "keep"),
        "chunked": (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n", "keep"
        ),
    }  # fmt: skip

    def __init__(self, trick: str, every: int = 4) -> None:
        self.trick = trick
        self.every = every
        self.did: Counter[str] = Counter()
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        while await self._request(reader):
            number = self.did.total()
            trick = self.trick if number % self.every == self.every - 1 else "none"
            self.did[trick] += 1
            answer, then = self.TRICKS[trick]
            writer.write(answer)
            await writer.drain()
            if then == "wait":
                await reader.read()
            if then == "reset":
                reset(writer)
            if then != "keep":
                return

    async def _request(self, reader: asyncio.StreamReader) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head:
            while length := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(length + 2)
            await reader.readexactly(2)
        if b"content-length: " in head:
            size = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(size))
        return True
