"""HTTP servers that answer exactly the bytes they are told to, or less, or for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from integration.prober.servers import listening

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
HANGING: list[Callable[[asyncio.StreamWriter], Awaitable[None]]] = []


@dataclass
class Host:
    """Where it listens, and what it was asked: head and body of each request."""

    port: int
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Whoever was kept hanging has gone."""

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lengths = [line for line in head.lower().splitlines() if line.startswith("content-length:")]
    size = int(lengths[0].partition(":")[2]) if lengths else 0
    return head, await reader.readexactly(size)


@contextlib.asynccontextmanager
async def host(say: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Host]:
    """One that reads a request and then says this."""
    made = Host(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.requests.append(await read_request(reader))
        await say(writer)
        if say in HANGING:
            await reader.read()  # until the other side goes
            made.left.set()

    async with listening(serve) as port:
        made.port = port
        yield made


def answering(*pieces: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """These bytes, then the end."""

    async def say(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return say


def hanging(*pieces: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """These bytes, then nothing for as long as the other side is there."""

    say = answering(*pieces)
    HANGING.append(say)
    return say


def flooding(head: bytes, piece: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """A head, then the same piece for as long as it is taken."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()

    return say


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
