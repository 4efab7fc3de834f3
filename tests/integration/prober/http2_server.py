"""An HTTP/2 server that misbehaves on purpose, one trick at every n-th request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame
from integration.prober.servers import reset

HEADERS = [(":status", "200"), ("x-release", "demo@1")]


class Http2Server:
    """Answers `hello`, or as `trick` says. Counts tricks over all connections."""

    def __init__(self, trick: str = "none", every: int = 4, streams: int = 100) -> None:
        self.trick = trick
        self.every = every
        self.streams = streams
        self.did: Counter[str] = Counter()
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        await _Served(self, reader, writer).run()


class _Served:
    def __init__(
        self, server: Http2Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        config = H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = H2Connection(config)
        wanted = {SettingCodes.MAX_CONCURRENT_STREAMS: server.streams}
        self.h2.local_settings = Settings(client=False, initial_values=wanted)
        self.bodies: dict[int, bytes] = {}
        self.deaf_above = 2**31
        self.over = False

    async def run(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        while not self.over and (data := await self.reader.read(65536)):
            for event in self.h2.receive_data(data):
                match event:
                    case events.RequestReceived(stream_id=number):
                        self.bodies[number] = b""
                    case events.DataReceived(stream_id=number, data=piece):
                        self.bodies[number] += piece or b""
                        self.h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
                    case events.StreamEnded(stream_id=number):
                        self.request(number)
            self.flush()

    def flush(self) -> None:
        if not self.writer.is_closing():
            self.writer.write(self.h2.data_to_send())

    def request(self, number: int) -> None:
        if number > self.deaf_above:
            return
        count = self.server.did.total()
        special = count % self.server.every == self.server.every - 1
        trick = self.server.trick if special else "none"
        self.server.did[trick] += 1
        cast(Callable[[int], None], getattr(self, trick.replace(" ", "_")))(number)

    def none(self, number: int) -> None:
        body = self.bodies.pop(number) or b"hello"
        self.h2.send_headers(number, HEADERS)
        for start in range(0, len(body), 16_384):
            self.h2.send_data(number, body[start : start + 16_384])
        self.h2.end_stream(number)

    def error(self, number: int) -> None:
        self.h2.send_headers(number, [(":status", "503")])
        self.h2.send_data(number, b"no upstream", end_stream=True)

    def rst(self, number: int) -> None:
        self.h2.reset_stream(number, ErrorCodes.INTERNAL_ERROR)

    def rst_in_body(self, number: int) -> None:
        self.h2.send_headers(number, HEADERS)
        self.h2.send_data(number, b"hel")
        self.h2.reset_stream(number, ErrorCodes.CANCEL)

    def refuse(self, number: int) -> None:
        self.h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)

    def short(self, number: int) -> None:
        self.h2.send_headers(number, [*HEADERS, ("content-length", "9")])
        self.h2.send_data(number, b"hello", end_stream=True)

    def silence(self, number: int) -> None:
        pass

    def wrong_echo(self, number: int) -> None:
        self.bodies[number] = b"wrong"
        self.none(number)

    def grpc(self, number: int, message: bytes = b"\0\0\0\0\5hello", status: str = "0") -> None:
        self.h2.send_headers(number, [*HEADERS, ("content-type", "application/grpc")])
        self.h2.send_data(number, message)
        self.h2.send_headers(number, [("grpc-status", status)], end_stream=True)

    def grpc_half(self, number: int) -> None:
        self.grpc(number, b"\0\0\0\0\5hel")

    def grpc_none(self, number: int) -> None:
        self.grpc(number, b"")

    def close(self, number: int) -> None:
        self.flush()
        self.over = True

    def kill(self, number: int) -> None:
        reset(self.writer)
        self.over = True

    def goaway(self, number: int) -> None:
        """Announce leaving, then finish what was accepted, then leave: a graceful drain."""
        self.flush()
        self.writer.write(GoAwayFrame(last_stream_id=2**31 - 1).serialize())
        self.writer.write(GoAwayFrame(last_stream_id=number).serialize())
        self.deaf_above = number
        asyncio.get_running_loop().call_later(0.05, self.finish, number)

    def finish(self, number: int) -> None:
        self.none(number)
        self.flush()
        self.writer.close()

    def goaway_behind(self, number: int) -> None:
        """Leave without having looked at this request."""
        self.flush()
        self.writer.write(GoAwayFrame(last_stream_id=number - 2).serialize())
        self.over = True
