"""Small services to route to: each says who answered and what it saw.

Header and body always go out in one write, or Nagle's algorithm and delayed acknowledgements would
cost 40 ms a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from h2.exceptions import ProtocolError
from websockets.asyncio.server import ServerConnection, serve

ECHO = "/test.Echo/Say"
STREAM = "/test.Echo/Stream"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """A server that handles each connection so; yields its address."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class Web:
    """An HTTP/1.1 server. `/slow...` answers when `release` is set, `/status/N` with N."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.release = asyncio.Event()
        self.waiting = 0
        self.requests = 0
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Web]:
        async with listening(self._serve) as address:
            self.port = int(address.rpartition(":")[2])
            try:
                yield self
            finally:
                self.release.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                headers = [line.split(": ", 1) for line in head[1:] if line]
                length = int(dict(headers).get("content-length", 0))
                await reader.readexactly(length)
                writer.write(await self._answer(method, path, headers))
                await writer.drain()
        writer.close()

    async def _answer(self, method: str, path: str, headers: list[list[str]]) -> bytes:
        self.requests += 1
        status = int(path.removeprefix("/status/")) if path.startswith("/status/") else 200
        if path.startswith("/slow"):
            self.waiting += 1
            await self.release.wait()
            self.waiting -= 1
        seen = {"name": self.name, "method": method, "path": path, "headers": headers}
        body = json.dumps(seen).encode()
        return (
            f"HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\nserver: {self.name}"
            f"\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body


@contextlib.asynccontextmanager
async def http2_web(name: str) -> AsyncIterator[str]:
    """A server that speaks HTTP/2 and nothing else; yields its address."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = H2Connection(H2Configuration(client_side=False))
        talk.initiate_connection()
        with contextlib.suppress(ProtocolError, ConnectionError):
            while data := await reader.read(65_536):
                for event in talk.receive_data(data):
                    if isinstance(event, StreamEnded):
                        talk.send_headers(event.stream_id, [(":status", "200")])
                        body = json.dumps({"name": name}).encode()
                        talk.send_data(event.stream_id, body, end_stream=True)
                writer.write(talk.data_to_send())
        writer.close()

    async with listening(serve_one) as address:
        yield address


@contextlib.asynccontextmanager
async def websocket_echo() -> AsyncIterator[str]:
    """A WebSocket server that repeats; yields its address."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@contextlib.asynccontextmanager
async def grpc_echo(name: str) -> AsyncIterator[str]:
    """A gRPC server: `Say` answers once, `Stream` repeats each message; yields its address."""

    async def say(request: StringValue, _context: object) -> StringValue:
        return StringValue(value=f"{name}:{request.value}")

    async def stream(
        requests: AsyncIterator[StringValue], _context: object
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield StringValue(value=f"{name}:{request.value}")

    coding = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(say, **coding),
        "Stream": grpc.stream_stream_rpc_method_handler(stream, **coding),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def tcp_echo(name: str) -> AsyncIterator[str]:
    """A TCP server that greets with its name and then repeats; yields its address."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                writer.write(data)
        writer.close()

    async with listening(echo) as address:
        yield address


class Unruly:
    """An HTTP/1.1 server that misbehaves as the path says: `/status/N`, `/reset` (RST at once),
    `/close` (no answer), `/cut` (half an answer), `/stall` (half an answer, then nothing), `/hang`,
    `/sleep/SECONDS`; `seconds` is how long
    each request took here."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.address = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Unruly]:
        async with listening(self._serve) as address:
            self.address = address
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        begun = time.monotonic()
        kind, _, how = path.strip("/").partition("/")
        if kind in ("cut", "stall"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            await writer.drain()
        if kind in ("hang", "stall"):
            await reader.read()  # until the other side gives up
        if kind == "reset":
            reset(writer)
        if kind in ("cut", "stall", "hang", "reset", "close"):
            return False
        if kind == "sleep":
            await asyncio.sleep(float(how))
        status = how if kind == "status" else "200"
        self.seconds.append(time.monotonic() - begun)
        writer.write(f"HTTP/1.1 {status} Whatever\r\ncontent-length: 2\r\n\r\nok".encode())
        return True


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def tcp_unruly() -> AsyncIterator[str]:
    """A TCP server that resets when told `reset` and answers anything else; yields its address."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if await reader.read(100) == b"reset":
                reset(writer)
                return
            writer.write(b"ok")
        writer.close()

    async with listening(serve_one) as address:
        yield address


@contextlib.asynccontextmanager
async def grpc_unruly(answers: asyncio.Event) -> AsyncIterator[str]:
    """A gRPC server: `Say` ends with the status it is asked for, and with `OK` once `answers` is
    set; `Stream` repeats, and ends with the status it is told."""

    async def say(request: StringValue, context: grpc.aio.ServicerContext) -> StringValue:
        if request.value == "OK":
            await answers.wait()
            return request
        raise await context.abort(grpc.StatusCode[request.value], "as you wish")

    async def stream(
        requests: AsyncIterator[StringValue], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            if request.value in grpc.StatusCode.__members__:
                await context.abort(grpc.StatusCode[request.value], "as you wish")
            yield request

    coding = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(say, **coding),
        "Stream": grpc.stream_stream_rpc_method_handler(stream, **coding),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        answers.set()
        await server.stop(0)
