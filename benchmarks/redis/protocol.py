"""As much of Redis' protocol (RESP 2) as a client needs: a command, and its answer.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import socket

SECONDS = 5.0
Answer = str | int | list["Answer"] | None


class Refused(OSError):
    """Redis answered with an error."""


class Connection:
    """One connection; a command at a time."""

    def __init__(self, port: int, seconds: float = SECONDS) -> None:
        """Wait no longer than so many seconds for it, and for each answer.

        Raises:
            OSError: nobody is there.
        """
        self._socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._answers = self._socket.makefile("rb")

    def ask(self, *words: object) -> Answer:
        """The answer to a command.

        Raises:
            Refused: it is an error.
            OSError: there is none.
        """
        encoded = [str(word).encode() for word in words]
        parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), b"".join(parts)))
        return self._answer()

    def _answer(self) -> Answer:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        kind, rest = line[:1], line[1:-2].decode()
        match kind:
            case b"-":
                raise Refused(rest)
            case b":":
                return int(rest)
            case b"$":
                return self._bytes(int(rest))
            case b"*":
                return [self._answer() for _ in range(int(rest))]
            case _:
                return rest

    def _bytes(self, size: int) -> str | None:
        if size < 0:
            return None
        found = self._answers.read(size + 2)
        if len(found) < size + 2:
            raise ConnectionError("the connection ended")
        return found[:-2].decode()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()
