"""HTTP/1.1: one request at a time on a connection, kept alive, fresh, or trickling.

A request goes out only on a connection on which the server is silent. From its first byte on, an
end of the connection before the answer is complete is a failure. `Connection: close` retires the
connection after a complete answer; that loses nothing. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from volery.prober.outcome import Answer, Body, Failure, check_content, check_status
from volery.prober.plan import Kind, Stream
from volery.prober.tally import Tally
from volery.prober.wire import Closed, Connection, Pool


class Http1:
    """Sends the requests of one HTTP/1.1 stream."""

    def __init__(self, tally: Tally) -> None:
        self._stream = tally.stream
        self._tally = tally
        self._pool = Pool(lambda: Connection.open(self._stream.address), tally)
        self._head = _request_head(self._stream)

    async def call(self, number: int) -> Answer:
        """One request and its complete, right answer. Raises Failure."""
        body = self._stream.body(number)
        connection = await self._pool.take()
        again = False
        try:
            head, answer, again = await self._exchange(connection, body)
        finally:
            (self._pool.give if again else self._pool.drop)(connection)
        if not again and self._stream.kind is not Kind.HTTP1_FRESH:
            self._tally.retired += 1
        check_status(self._stream, head.status, answer)
        check_content(self._stream, body, answer.body)
        return answer

    async def close(self) -> None:
        """Let go of idle connections."""
        await self._pool.close()

    async def _exchange(self, connection: Connection, body: bytes) -> tuple[Head, Answer, bool]:
        sending = await self._send(connection, body)
        try:
            head = await _read_head(connection)
            sent = sending is None or sending.done()
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.wait([sending])
        reading = _Reading(connection, head, Body(body), self._pause(head))
        if head.has_body(self._stream.verb):
            await reading.whole()
        answer = Answer(head.headers, bytes(reading.body.kept), reading.body.size)
        again = sent and head.keeps_alive(self._stream.verb) and not connection.received
        return head, answer, again and self._stream.kind is not Kind.HTTP1_FRESH

    async def _send(self, connection: Connection, body: bytes) -> asyncio.Task[None] | None:
        if self._stream.kind is Kind.UPLOAD:
            await connection.send(self._head + b"transfer-encoding: chunked\r\n\r\n")
            return asyncio.create_task(self._trickle(connection, body))
        if body or self._stream.verb not in ("GET", "HEAD"):
            await connection.send(self._head + b"content-length: %d\r\n\r\n" % len(body) + body)
        else:
            await connection.send(self._head + b"\r\n")
        return None

    async def _trickle(self, connection: Connection, body: bytes) -> None:
        stream = self._stream
        size = max(1, -(-len(body) // stream.portions))
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            await connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            await asyncio.sleep(stream.spans / stream.portions)
        await connection.send(b"0\r\n\r\n")

    def _pause(self, head: Head) -> Pause:
        stream = self._stream
        if stream.kind is not Kind.DOWNLOAD:
            return Pause()
        length = int(head.headers.get("content-length", "0") or 0)
        piece = max(1, length // stream.portions) if length else 16 * 1024
        return Pause(stream.portions, stream.spans / stream.portions, piece)


@dataclass
class Pause:
    """How a slow reader reads: so many times it takes at most `piece` bytes and then rests."""

    times: int = 0
    seconds: float = 0.0
    piece: int = 64 * 1024

    async def rest(self) -> None:
        """Rest, if it is still one of the slow reads."""
        if self.times > 0:
            self.times -= 1
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Head:
    """Status line and headers of an answer."""

    version: str
    status: int
    headers: dict[str, str]

    def has_body(self, verb: str) -> bool:
        """Whether a body follows."""
        return verb != "HEAD" and self.status not in (204, 304)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    def keeps_alive(self, verb: str) -> bool:
        """Whether the connection may carry another request."""
        tokens = self.headers.get("connection", "").lower()
        framed = self.chunked or "content-length" in self.headers or not self.has_body(verb)
        asked = "keep-alive" in tokens if self.version == "HTTP/1.0" else "close" not in tokens
        return framed and asked


def _request_head(stream: Stream) -> bytes:
    lines = [f"{stream.verb} {stream.path} HTTP/1.1"]
    given = {name.lower() for name, _ in stream.headers}
    defaults = [("host", stream.parts.netloc), ("user-agent", "volery-prober")]
    if stream.kind is Kind.HTTP1_FRESH:
        defaults.append(("connection", "close"))
    wanted = [pair for pair in defaults if pair[0] not in given] + list(stream.headers)
    lines += [f"{name}: {value}" for name, value in wanted]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1", "replace")


async def _read_head(connection: Connection) -> Head:
    while True:
        try:
            raw = await connection.until(b"\r\n\r\n")
        except Closed as closed:
            cause = "truncated_head" if connection.received else "closed_before_answer"
            raise closed.failure(cause, "after the request was sent") from None
        head = _parse_head(raw)
        if head.status >= 200:
            return head


def _parse_head(raw: bytes) -> Head:
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise Failure("malformed", f"not an HTTP/1 answer: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key, value = name.strip().lower(), value.strip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    length = headers.get("content-length", "0")
    if not length.isdigit():
        raise Failure("malformed", f"content-length {length[:80]!r}")
    return Head(version, int(rest[:3]), headers)


@dataclass
class _Reading:
    """Reads one body by its framing; what ends too early is `truncated_body`."""

    connection: Connection
    head: Head
    body: Body
    pause: Pause

    async def whole(self) -> None:
        """Read to the end of the body."""
        try:
            await self._by_framing()
        except Closed as closed:
            detail = f"status {self.head.status}, after {self.body.size} bytes of the body"
            raise closed.failure("truncated_body", detail) from None

    async def _by_framing(self) -> None:
        if self.head.chunked:
            await self._chunks()
        elif "content-length" in self.head.headers:
            await self._bytes(int(self.head.headers["content-length"]))
        else:
            await self._to_the_end()

    async def _bytes(self, count: int) -> None:
        while count > 0:
            data = await self.connection.some(min(count, self.pause.piece))
            count -= len(data)
            self.body.add(data)
            await self.pause.rest()

    async def _chunks(self) -> None:
        while True:
            size = _chunk_size(await self.connection.until(b"\r\n", 4096))
            if size == 0:
                break
            await self._bytes(size)
            if await self.connection.until(b"\r\n", 2):
                raise Failure("malformed", "a chunk is longer than it says")
        while await self.connection.until(b"\r\n"):
            pass

    async def _to_the_end(self) -> None:
        try:
            while True:
                self.body.add(await self.connection.some(self.pause.piece))
                await self.pause.rest()
        except Closed as closed:
            if closed.reset:
                raise


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise Failure("malformed", f"chunk size {line[:40]!r}") from None
