"""WebSockets and TCP lines: ends between two messages are fine, ends after one lose it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
from integration.prober.servers import plan_for, probed, reset, steady
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from volery.prober import Kind, ProbeReport, probe

Trick = Callable[[ServerConnection, str], Awaitable[None]]


class EchoServer:
    """A WebSocket echo that plays its trick at every fourth message."""

    def __init__(self, trick: Trick) -> None:
        self.trick = trick
        self.did: Counter[str] = Counter()
        self.connections = 0

    async def __call__(self, connection: ServerConnection) -> None:
        self.connections += 1
        async for message in connection:
            assert isinstance(message, str)
            number = self.did.total()
            special = number % 4 == 3
            self.did["trick" if special else "echo"] += 1
            await (self.trick(connection, message) if special else connection.send(message))


def _websocket(server: EchoServer, **settings: Any) -> ProbeReport:
    async def run() -> ProbeReport:
        async with serve(server, "127.0.0.1", 0, **settings) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            return await probe(plan_for(Kind.WEBSOCKET, port))

    with steady():
        report = asyncio.run(run())
    assert report.sent == 40
    return report


async def _echo(connection: ServerConnection, message: str) -> None:
    await connection.send(message)


async def _wrong(connection: ServerConnection, message: str) -> None:
    await connection.send(message + "!")


async def _restart(connection: ServerConnection, message: str) -> None:
    await connection.close(1012, "restarting")


async def _echo_and_restart(connection: ServerConnection, message: str) -> None:
    await connection.send(message)
    await connection.close(1012, "restarting")


async def _break(connection: ServerConnection, message: str) -> None:
    connection.transport.abort()


async def _echo_and_break(connection: ServerConnection, message: str) -> None:
    await connection.send(message)
    connection.transport.close()


@pytest.mark.parametrize(
    ("trick", "cause"),
    [(_wrong, "bad_echo"), (_restart, "ws_closed_1012"), (_break, "ws_closed_1006")],
)
def test_each_lost_message_is_counted(trick: Trick, cause: str) -> None:
    server = EchoServer(trick)
    report = _websocket(server)
    assert report.causes == {cause: 10} == {cause: server.did["trick"]}


def test_a_good_websocket_loses_nothing() -> None:
    def mark(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["x-release"] = "feed@1"

    server = EchoServer(_echo)
    report = _websocket(server, process_response=mark)
    assert (report.causes, report.versions) == ({}, {"feed@1": 40})
    assert server.connections < 20


def test_a_close_frame_between_messages_is_no_loss() -> None:
    server = EchoServer(_echo_and_restart)
    report = _websocket(server)
    assert (report.causes, report.ok) == ({}, 40)
    assert server.connections >= 10


def test_a_break_between_messages_is_a_loss() -> None:
    """The end of a conversation without a word counts once, against the next message."""
    report = _websocket(EchoServer(_echo_and_break))
    assert set(report.causes) == {"ws_closed_1006"}
    assert report.lost >= 5


def test_a_refused_handshake_is_counted_by_its_status() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no upstream\n")

    report = _websocket(EchoServer(_echo), process_request=refuse)
    assert report.causes == {"status_503": 40}
    assert report.samples[0].detail == "no upstream"


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("close", "closed_before_answer"),
        ("reset", "closed_before_answer"),
        ("junk", "malformed"),
    ],
)
def test_a_broken_handshake_is_counted(end: str, cause: str) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if end == "junk":
            writer.write(b"what?\r\n\r\n")
        if end == "reset":
            reset(writer)

    assert probed(Kind.WEBSOCKET, broken).causes == {cause: 40}


def test_a_silent_handshake_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert probed(Kind.WEBSOCKET, silent, timeout=0.5).causes == {"timeout": 40}


@pytest.mark.parametrize(
    ("trick", "causes"),
    [
        (b"{line}\n", {}),
        (b"{line}\r\n", {}),
        (b"other\n", {"bad_echo": 10}),
        (b"{line}", {"truncated_body": 10}),
        (b"", {"closed_before_answer": 10}),
        (b"reset", {"reset": 10}),
        (b"{line}\nclose", {}),
    ],
)
def test_lines(trick: bytes, causes: dict[str, int]) -> None:
    count = 0

    async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            line = (await reader.readuntil(b"\n")).strip()
            count += 1
            if count % 4:
                writer.write(line + b"\n")
                continue
            if trick == b"reset":
                reset(writer)
                return
            writer.write(trick.removesuffix(b"close").replace(b"{line}", line))
            if not trick.endswith(b"\n"):
                return

    assert probed(Kind.LINE, lines).causes == causes


def test_a_question_has_its_expected_answer() -> None:
    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            line = await reader.readuntil(b"\n")
            writer.write(b"VALUE 7\n" if line == b"GET owls\n" else b"ERROR\n")

    asked = {"echo": False, "expect": b"VALUE"}
    assert probed(Kind.LINE, store, payload=b"GET owls", **asked).causes == {}
    report = probed(Kind.LINE, store, payload=b"GET wrens", **asked)
    assert report.causes == {"bad_answer": 40}
