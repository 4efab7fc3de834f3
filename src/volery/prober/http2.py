"""HTTP/2 with prior knowledge: many requests at once on few connections.

The `h2` library speaks the protocol of each request. GOAWAY is taken out of the byte stream before
`h2` sees it, because `h2` ends the connection there, while a server that goes away gracefully still
answers the streams it has accepted. A stream above its last id, or reset with REFUSED_STREAM, is
`NotProcessed` by the server's own word, and the only thing that is ever sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from volery.prober.outcome import (
    Answer,
    Body,
    Failure,
    NotProcessed,
    check_content,
    check_status,
)
from volery.prober.plan import Stream
from volery.prober.tally import Tally
from volery.prober.wire import Closed, connect

_FRAME_HEAD = 9
_GOAWAY = 0x7
_WINDOW = 1024 * 1024
_LAST_ID = 2**31 - 1000


class Call:
    """One request and what has come back for it so far."""

    def __init__(self, number: int, body: Body) -> None:
        self.id = number
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = body
        self.sent = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: Exception) -> None:
        """It will not be answered."""
        if not self.done.done():
            self.done.set_exception(why)
            self.done.exception()

    def lost(self, closed: Closed) -> None:
        """Its connection is gone."""
        if self.status:
            detail = f"status {self.status}, after {self.body.size} bytes of the body"
            self.fail(closed.failure("truncated_body", detail))
        else:
            self.fail(closed.failure("closed_before_answer", "after the request was sent"))


class Session(asyncio.Protocol):
    """One HTTP/2 connection."""

    def __init__(self) -> None:
        config = H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = H2Connection(config)
        wanted = {SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW, SettingCodes.ENABLE_PUSH: 0}
        self._h2.local_settings = Settings(client=True, initial_values=wanted)
        self._frames = Frames()
        self._calls: dict[int, Call] = {}
        self._ended: Closed | None = None
        self._changed = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leaving = False

    async def ready(self) -> None:
        """Wait until the server has said how many streams it takes. Raises Failure."""
        try:
            await self._ready
        except Closed as closed:
            failure = closed.failure("closed_before_answer", "no HTTP/2 settings came")
            raise failure from None

    @property
    def accepts(self) -> bool:
        """Whether another request may be sent on it."""
        limit = self._h2.remote_settings.max_concurrent_streams
        return self.open and self._h2.open_outbound_streams < limit

    @property
    def open(self) -> bool:
        """Whether requests may be sent on it, now or when others are done."""
        used_up = self._h2.highest_outbound_stream_id >= _LAST_ID
        return self._ended is None and not self.leaving and not used_up

    @property
    def busy(self) -> bool:
        """Whether requests are in flight on it."""
        return bool(self._calls)

    def start(self, headers: list[tuple[str, str]], body: Body, *, whole: bool) -> Call:
        """Send the head of a request; `whole` if that is all, so that no proxy expects more."""
        call = Call(self._h2.get_next_available_stream_id(), body)
        self._h2.send_headers(call.id, headers, end_stream=whole)
        self._calls[call.id] = call
        self._flush()
        return call

    async def send(self, call: Call, data: bytes, *, last: bool) -> None:
        """Send a part of a request's body, as flow control allows; stops if the call is done."""
        while not call.done.done():
            room = min(
                self._h2.local_flow_control_window(call.id), self._h2.max_outbound_frame_size
            )
            piece, data = data[: max(0, room)], data[max(0, room) :]
            if piece or not data:
                self._h2.send_data(call.id, piece, end_stream=last and not data)
                self._flush()
            if not data:
                call.sent = last
                return
            if not piece:
                await self._change(call)

    async def _change(self, call: Call) -> None:
        """Wait for more room, or for the end of the call."""
        self._changed.clear()
        changed = asyncio.ensure_future(self._changed.wait())
        either: set[asyncio.Future[Any]] = {changed, call.done}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    def forget(self, call: Call) -> None:
        """The call is over, or given up: then tell the server."""
        unanswered = self._calls.pop(call.id, None) is not None
        if (unanswered or not call.sent) and self._ended is None:
            self._reset(call.id)
        if not self.open and not self._calls:
            self._transport.close()

    def close(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def _reset(self, number: int) -> None:
        try:
            self._h2.reset_stream(number, ErrorCodes.CANCEL)
        except ProtocolError:
            return  # h2 has closed the stream already: nothing is left to cancel
        self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: say hello."""
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Frames came."""
        try:
            for kind, frame in self._frames.split(data):
                if kind == _GOAWAY:
                    self._going_away(frame)
                else:
                    self._take(self._h2.receive_data(frame))
        except ProtocolError as error:
            for call in self._calls.values():
                call.fail(Failure("malformed", f"HTTP/2: {error}"))
            self._transport.abort()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._ended = Closed(reset=exc is not None)
        for call in self._calls.values():
            call.lost(self._ended)
        if not self._ready.done():
            self._ready.set_exception(self._ended)
            self._ready.exception()

    def _going_away(self, frame: bytes) -> None:
        last = int.from_bytes(frame[_FRAME_HEAD : _FRAME_HEAD + 4], "big") & 0x7FFFFFFF
        self.leaving = True
        for call in self._calls.values():
            if call.id > last:
                call.fail(NotProcessed("goaway"))

    def _take(self, happened: Iterable[events.Event]) -> None:
        for event in happened:
            if isinstance(event, events.RemoteSettingsChanged) and not self._ready.done():
                self._ready.set_result(None)
            if isinstance(event, events.DataReceived) and event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            call = self._calls.get(getattr(event, "stream_id", None) or 0)
            if call is not None:
                self._progress(call, event)
        self._changed.set()

    def _progress(self, call: Call, event: events.Event) -> None:
        match event:
            case events.ResponseReceived() | events.TrailersReceived():
                # One short body would make h2 end the connection of all; `_check_length` is ours.
                self._h2.streams[call.id]._expected_content_length = None
                call.headers.update(cast(list[tuple[str, str]], event.headers or []))
                call.status = int(call.headers.get(":status", "0"))
            case events.DataReceived():
                call.body.add(event.data or b"")
            case events.StreamEnded():
                self._calls.pop(call.id, None)
                if not call.done.done():
                    call.done.set_result(None)
            case events.StreamReset():
                self._calls.pop(call.id, None)
                call.fail(_reset(call, event.error_code))


def _reset(call: Call, code: ErrorCodes | int | None) -> Exception:
    if code == ErrorCodes.REFUSED_STREAM:
        return NotProcessed("refused stream")
    name = code.name if isinstance(code, ErrorCodes) else str(code)
    return Failure("reset", f"stream reset with {name}, after {call.body.size} bytes of the body")


class Frames:
    """Cuts a byte stream into whole HTTP/2 frames."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, data: bytes) -> Iterable[tuple[int, bytes]]:
        """Type and bytes of each frame that is complete now."""
        data = self._rest + data
        start = 0
        found = []
        while len(data) - start >= _FRAME_HEAD:
            end = start + _FRAME_HEAD + int.from_bytes(data[start : start + 3], "big")
            if end > len(data):
                break
            found.append((data[start + 3], data[start:end]))
            start = end
        self._rest = data[start:]
        return found


class Sessions:
    """The HTTP/2 connections of one stream: opened when needed, taken in turns."""

    def __init__(self, tally: Tally) -> None:
        self._stream = tally.stream
        self._tally = tally
        self._all: list[Session] = []
        self._opening = asyncio.Lock()
        self._turn = 0

    async def take(self) -> Session:
        """A session that accepts a request now. Raises Failure."""
        while (session := self._next()) is None:
            async with self._opening:
                if self._next() is None:
                    session = await self._open()
                    self._all.append(session)
        return session

    def _next(self) -> Session | None:
        gone = [session for session in self._all if not session.open]
        self._all = [session for session in self._all if session.open]
        self._tally.retired += len(gone)
        for session in gone:
            if not session.busy:
                session.close()
        accepting = [session for session in self._all if session.accepts]
        if not accepting or len(self._all) < self._stream.connections:
            return None
        self._turn += 1
        return accepting[self._turn % len(accepting)]

    async def _open(self) -> Session:
        session = await connect(Session, self._stream.address)
        try:
            await session.ready()
            if not session.accepts:
                raise NotProcessed("a new connection takes no requests")
        except BaseException:
            session.close()
            raise
        return session

    def close(self) -> None:
        """End all connections."""
        for session in self._all:
            session.close()


class Http2:
    """Sends the requests of one HTTP/2 stream."""

    def __init__(self, tally: Tally) -> None:
        self._stream = tally.stream
        self._sessions = Sessions(tally)
        self._headers = request_headers(self._stream)

    async def call(self, number: int) -> Answer:
        """One request and its complete, right answer. Raises Failure, NotProcessed."""
        sent = self._stream.body(number)
        session = await self._sessions.take()
        pieces = _whole(sent) if sent else None
        call = await converse(session, self._headers, pieces, Body(sent))
        answer = Answer(call.headers, bytes(call.body.kept), call.body.size)
        check_status(self._stream, call.status, answer)
        _check_length(call)
        check_content(self._stream, sent, answer.body)
        return answer

    async def close(self) -> None:
        """End all connections."""
        self._sessions.close()


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _check_length(call: Call) -> None:
    said = call.headers.get("content-length")
    if said is not None and said != str(call.body.size):
        raise Failure("truncated_body", f"{call.body.size} of {said} bytes of the body")


async def converse(
    session: Session,
    headers: list[tuple[str, str]],
    pieces: AsyncIterator[bytes] | None,
    body: Body,
) -> Call:
    """Send a request piece by piece and collect all of its answer into `body`.

    Raises:
        Failure: there was none, or only a part of it.
        NotProcessed: the server promises not to have looked at it.
    """
    call = session.start(headers, body, whole=pieces is None)
    try:
        if pieces is None:
            call.sent = True
        else:
            await _send_all(session, call, pieces)
        await call.done
    finally:
        session.forget(call)
    return call


async def _send_all(session: Session, call: Call, pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        await session.send(call, piece, last=False)
        if call.done.done():
            break
    await session.send(call, b"", last=True)


def request_headers(stream: Stream) -> list[tuple[str, str]]:
    """The pseudo-headers and headers of a stream's requests."""
    given = [(name.lower(), value) for name, value in stream.headers]
    return [
        (":method", stream.verb),
        (":scheme", "http"),
        (":authority", stream.parts.netloc),
        (":path", stream.path),
        *(
            []
            if any(name == "user-agent" for name, _ in given)
            else [("user-agent", "volery-prober")]
        ),
        *given,
    ]
