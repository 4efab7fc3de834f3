"""WebSocket: a message and its echo, on connections that are kept open between messages.

Between two messages a server may end a connection with a close frame; the next message opens a new
one. A connection that breaks without a close frame, or ends after a message was sent on it, is a
failure: `ws_closed_<code>` (1006 is what "no close frame" is called).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.protocol import State

from volery.prober.outcome import (
    Answer,
    Failure,
    check_content,
    check_status,
    connecting_failed,
)
from volery.prober.plan import Stream
from volery.prober.tally import Tally
from volery.prober.wire import Pool, silent

_ABNORMAL = 1006
_LOG = logging.getLogger("volery.prober.websocket")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


class Line:
    """One WebSocket connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def usable(self) -> bool:
        """Whether a message may be sent on it.

        Raises:
            Failure: it broke while nobody was asking anything of it.
        """
        for _ in range(3):  # the loop's turns in which what has arrived is read
            if self._connection.state is not State.OPEN or silent(self._connection.transport):
                break
            await asyncio.sleep(0)
        if self._connection.state is State.CLOSED and self._connection.close_code == _ABNORMAL:
            raise Failure(f"ws_closed_{_ABNORMAL}", "broke between messages, without a close frame")
        return self._connection.state is State.OPEN

    def close(self) -> None:
        """End it at once."""
        self._connection.transport.abort()

    async def leave(self) -> None:
        """Say goodbye with a close frame."""
        await self._connection.close()

    async def ask(self, message: bytes) -> bytes:
        """Send a message, as text where it is text, and receive one. Raises Failure."""
        try:
            await self._connection.send(_text(message))
            answer = await self._connection.recv()
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else _ABNORMAL
            reason = closed.rcvd.reason if closed.rcvd else "no close frame"
            raise Failure(f"ws_closed_{code}", f"after a message was sent: {reason}") from None
        return answer.encode() if isinstance(answer, str) else answer

    @property
    def headers(self) -> Mapping[str, str]:
        """What the server said when it agreed to speak WebSocket."""
        response = self._connection.response
        items = response.headers.raw_items() if response else ()
        return {name.lower(): value for name, value in items}


class WebSocket:
    """Sends the messages of one WebSocket stream."""

    def __init__(self, tally: Tally) -> None:
        self._stream = tally.stream
        self._pool = Pool(lambda: _open(self._stream), tally)

    async def call(self, number: int) -> Answer:
        """One message and its echo. Raises Failure."""
        message = self._stream.body(number)
        line = await self._pool.take()
        kept = False
        try:
            body = await line.ask(message)
            kept = True
        finally:
            (self._pool.give if kept else self._pool.drop)(line)
        check_content(self._stream, message, body)
        return Answer(line.headers, body, len(body))

    async def close(self) -> None:
        """Let go of idle connections."""
        await self._pool.close()


async def _open(stream: Stream) -> Line:
    made: list[ClientConnection] = []

    def make(*args: Any, **settings: Any) -> ClientConnection:
        made.append(ClientConnection(*args, **settings))
        return made[-1]

    try:
        return Line(await _shake_hands(stream, make))
    except BaseException:  # the library leaves connections open that it was cancelled on
        for connection in made:
            if transport := getattr(connection, "transport", None):
                transport.abort()
        raise


async def _shake_hands(stream: Stream, make: Callable[..., ClientConnection]) -> ClientConnection:
    try:
        return await connect(
            stream.url.replace("http://", "ws://", 1),
            additional_headers=list(stream.headers),
            compression=None,
            open_timeout=None,
            close_timeout=1,
            ping_interval=None,
            proxy=None,
            logger=_LOG,
            create_connection=make,  # type: ignore[arg-type] # a maker does, not only a class
        )
    except InvalidStatus as refused:
        response = refused.response
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        check_status(stream, response.status_code, Answer(headers, bytes(response.body or b"")))
        raise Failure(f"status_{response.status_code}", "instead of a WebSocket") from None
    except InvalidHandshake as error:
        ended = isinstance(error.__cause__, EOFError)
        cause = "closed_before_answer" if ended else "malformed"
        raise Failure(cause, f"WebSocket handshake: {error}") from None
    except OSError as error:
        raise connecting_failed(error) from None


def _text(message: bytes) -> str | bytes:
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message
