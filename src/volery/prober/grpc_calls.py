"""gRPC over the prober's own HTTP/2: length-prefixed messages of any bytes, status in trailers.

It needs no generated code and knows no message types: the payload is what the method takes. A call
is right when `grpc-status` is 0 and as many messages came back as the stream asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import unquote

from volery.prober.http2 import Call, Sessions, converse, request_headers
from volery.prober.outcome import Answer, Body, Failure, check_content, check_status
from volery.prober.plan import Kind
from volery.prober.tally import Tally

_PREFIX = 5


class Messages(Body):
    """Cuts a body into messages as they come, checks each, and keeps the first."""

    def __init__(self, check: Callable[[bytes], None]) -> None:
        super().__init__()
        self.count = 0
        self.first = b""
        self.wrong: Failure | None = None
        self.rest = bytearray()
        self._check = check

    def add(self, data: bytes) -> None:
        """Count a piece of the body."""
        super().add(data)
        self.rest += data
        while len(self.rest) >= _PREFIX:
            end = _PREFIX + int.from_bytes(self.rest[1:_PREFIX], "big")
            if end > len(self.rest):
                break
            self._message(bytes(self.rest[_PREFIX:end]))
            del self.rest[:end]

    def _message(self, message: bytes) -> None:
        self.first = message if self.count == 0 else self.first
        self.count += 1
        try:
            self._check(message)
        except Failure as failure:
            self.wrong = self.wrong or failure

    def check_complete(self, expected: int) -> None:
        """Raise unless there were that many whole, right messages (0: any number)."""
        if self.rest:
            raise Failure("truncated_body", f"{len(self.rest)} bytes of an incomplete message")
        if expected and self.count != expected:
            raise Failure("truncated_body", f"{self.count} of {expected} messages")
        if self.wrong:
            raise self.wrong


class Grpc:
    """Sends the calls of one gRPC stream."""

    def __init__(self, tally: Tally) -> None:
        self._stream = tally.stream
        self._sessions = Sessions(tally)
        self._headers = [
            *request_headers(self._stream),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]

    async def call(self, number: int) -> Answer:
        """One call and its complete, right answer. Raises Failure, NotProcessed."""
        message = self._stream.body(number)
        came = Messages(lambda answered: check_content(self._stream, message, answered))
        session = await self._sessions.take()
        call = await converse(session, self._headers, self._pieces(message), came)
        self._check_status(call)
        came.check_complete(1 if self._stream.kind is Kind.GRPC else self._stream.portions)
        return Answer(call.headers, came.first, came.size)

    async def close(self) -> None:
        """End all connections."""
        self._sessions.close()

    async def _pieces(self, message: bytes) -> AsyncIterator[bytes]:
        framed = frame(message)
        if self._stream.kind is not Kind.GRPC_BIDI:
            yield framed
            return
        for _ in range(self._stream.portions):
            yield framed
            await asyncio.sleep(self._stream.spans / self._stream.portions)

    def _check_status(self, call: Call) -> None:
        status = call.headers.get("grpc-status")
        if status is None:
            answer = Answer(call.headers, bytes(call.body.kept), call.body.size)
            check_status(self._stream, call.status, answer)
            raise Failure("malformed", "no grpc-status in the trailers")
        if status != "0":
            raise Failure(f"grpc_{status}", unquote(call.headers.get("grpc-message", "")))


def frame(message: bytes) -> bytes:
    """A message as it goes over the wire, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message
