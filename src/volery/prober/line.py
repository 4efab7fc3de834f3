"""TCP: a line and the line that answers it, on connections that are kept between lines.

A line goes out only on a connection on which the server is silent; from then on an end of the
connection before the answering line is complete is a failure.
"""

from __future__ import annotations

from volery.prober.outcome import Answer, check_content
from volery.prober.tally import Tally
from volery.prober.wire import Closed, Connection, Pool


class Lines:
    """Sends the lines of one stream."""

    def __init__(self, tally: Tally) -> None:
        self._stream = tally.stream
        self._pool = Pool(lambda: Connection.open(self._stream.address), tally)

    async def call(self, number: int) -> Answer:
        """One line and its answer. Raises Failure."""
        line = self._stream.body(number)
        connection = await self._pool.take()
        kept = False
        try:
            answer = await _ask(connection, line)
            kept = True
        finally:
            (self._pool.give if kept else self._pool.drop)(connection)
        check_content(self._stream, line, answer)
        return Answer(body=answer, size=len(answer))

    async def close(self) -> None:
        """Let go of idle connections."""
        await self._pool.close()


async def _ask(connection: Connection, line: bytes) -> bytes:
    await connection.send(line + b"\n")
    try:
        return (await connection.until(b"\n", 1024 * 1024)).removesuffix(b"\r")
    except Closed as closed:
        cause = "truncated_body" if connection.received else "closed_before_answer"
        raise closed.failure(cause, "after a line was sent") from None
