"""One question to one instance: may it get requests, does it live? Asked from outside.

Kinds: GET of a path (2xx and 3xx are yes; over HTTP/2 where the service speaks that), a TCP
connection, a command that exits 0. Every question is a fresh connection or process, ends at its
timeout with all it started, reads a bounded answer, and never raises: no answer is an answer too.
Who stood still itself while it should have listened, as on a busy machine, asks once more.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import h2.connection
import h2.events
import h2.exceptions

from volery.model.application import Probe
from volery.model.ports import REFUSED
from volery.model.units import format_duration
from volery.supervise.command import run
from volery.supervise.shim.child import expand
from volery.supervise.shim.processes import signal_name

_HEAD_BYTES = 16 * 1024
NOT_YET = 0
STOOD_STILL_SECONDS = 0.2
"""A moment that is noticed so much later than it was due says that we stood still until then."""


@dataclass(frozen=True)
class Target:
    """Whom to ask. The environment may hold secrets."""

    host: str
    port: int
    protocol: Literal["http", "http2", "grpc", "tcp"]
    directory: str
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """Yes or no, and in a few words what was seen."""

    ok: bool
    text: str
    late: bool = False
    """There was none in time."""


async def ask(probe: Probe | None, target: Target, seconds: float) -> Answer:
    """Put the question; without a probe it is whether a connection is accepted, and over HTTP/2
    greeted: the kernel accepts for a process that hangs, but does not greet for it."""
    due = time.monotonic() + seconds
    answer = await _asked(probe, target, seconds)
    return await _asked(probe, target, seconds) if answer.late and stood_still(due) else answer


def stood_still(due: float) -> bool:
    """Whether we come so late to a moment (monotonic) that nobody else is to blame for it."""
    return time.monotonic() > due + STOOD_STILL_SECONDS


async def _asked(probe: Probe | None, target: Target, seconds: float) -> Answer:
    if probe is not None and probe.command is not None:
        return await _command(probe.command, target, seconds)
    over_http2 = target.protocol in ("http2", "grpc")
    if probe is None and over_http2:
        return await _limited(_greets(target), seconds, "a connection was not greeted")
    if probe is None or probe.path is None:
        return await _limited(_connects(target), seconds, "a connection was not accepted")
    question = _get_h2 if over_http2 else _get
    return await _limited(
        question(probe.path, target), seconds, f"GET {probe.path} was not answered"
    )


async def _limited(question: Coroutine[Any, Any, Answer], seconds: float, late: str) -> Answer:
    try:
        async with asyncio.timeout(seconds):
            return await question
    except TimeoutError:
        return Answer(False, f"{late} within {format_duration(seconds)}", late=True)
    except ConnectionRefusedError:
        return Answer(False, REFUSED)
    except ConnectionError:
        return Answer(False, "connection reset")
    except OSError as error:
        return Answer(False, error.strerror or str(error))


def _socket() -> socket.socket:
    """One for one question. Bare, as streams cost more than everything else a probe does."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


async def _connects(target: Target) -> Answer:
    with _socket() as opened:
        await asyncio.get_running_loop().sock_connect(opened, (target.host, target.port))
    return Answer(True, "a connection was accepted")


async def _greets(target: Target) -> Answer:
    """Whether somebody there speaks HTTP/2: a server sends its settings whatever is asked."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    connection = h2.connection.H2Connection()
    try:
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while content := await reader.read(_HEAD_BYTES):
            events = connection.receive_data(content)
            if any(isinstance(event, h2.events.RemoteSettingsChanged) for event in events):
                return Answer(True, "a connection was greeted")
    except (h2.exceptions.ProtocolError, ValueError):
        return Answer(False, "a connection got no HTTP/2 greeting")
    finally:
        writer.transport.abort()
    return Answer(False, "a connection got no HTTP/2 greeting")


async def _get(path: str, target: Target) -> Answer:
    loop = asyncio.get_running_loop()
    head = f"GET {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
    rest = "User-Agent: volery\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    with _socket() as opened:
        # Not waited for: what is sent waits for the connection, and most are there at once.
        if (error := opened.connect_ex((target.host, target.port))) not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        await loop.sock_sendall(opened, (head + rest).encode())
        heard = b""
        while len(heard) < _HEAD_BYTES and (content := await loop.sock_recv(opened, _HEAD_BYTES)):
            heard += content
            status = _final(heard)
            if status != NOT_YET:
                return _judged(path, status)
    return _judged(path, None)


def _final(heard: bytes) -> int | None:
    """The status in what was heard so far, `100 Continue` and its like left out; None if that is
    no HTTP, `NOT_YET` while more must come."""
    while True:
        line, complete, _ = heard.partition(b"\r\n")
        status = _status(line) if complete else NOT_YET
        if status is None or status == NOT_YET or status >= 200:
            return status
        _, complete, heard = heard.partition(b"\r\n\r\n")
        if not complete:
            return NOT_YET


def _status(line: bytes) -> int | None:
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return None
    return int(words[1])


def _judged(path: str, status: int | None, spoken: str = "HTTP") -> Answer:
    if status is None:
        return Answer(False, f"GET {path} got no {spoken} answer")
    return Answer(200 <= status < 400, f"GET {path} answered {status}")


async def _get_h2(path: str, target: Target) -> Answer:
    """With prior knowledge, as services behind a proxy speak it."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    connection = h2.connection.H2Connection()
    try:
        connection.initiate_connection()
        headers = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", f"{target.host}:{target.port}"),
            (":path", path),
            ("user-agent", "volery"),
        ]
        connection.send_headers(connection.get_next_available_stream_id(), headers, end_stream=True)
        while True:
            writer.write(connection.data_to_send())
            content = await reader.read(_HEAD_BYTES)
            if not content:
                return _judged(path, None, "HTTP/2")
            for event in connection.receive_data(content):
                if isinstance(event, h2.events.ResponseReceived):
                    return _judged(path, int(dict(event.headers or [])[b":status"]))
                if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                    return _judged(path, None, "HTTP/2")
    except (h2.exceptions.ProtocolError, ValueError, KeyError):
        return _judged(path, None, "HTTP/2")
    finally:
        writer.transport.abort()


async def _command(words: Sequence[str], target: Target, seconds: float) -> Answer:
    name = words[0]
    argv = expand(list(words), dict(target.environment))
    try:
        ran = await run(argv, target.directory, target.environment, seconds)
    except OSError as error:
        return Answer(False, f"{name} cannot be run: {error.strerror}")
    if ran.code is None:
        return Answer(False, f"{name} did not end within {format_duration(seconds)}", late=True)
    how = f"exited {ran.code}" if ran.code >= 0 else f"was killed by {signal_name(-ran.code)}"
    return Answer(ran.code == 0, f"{name} {how}: {ran.last_line}".removesuffix(": "))
