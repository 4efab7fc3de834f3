"""The way to a control plane: for the CLI and for anybody's script.

With the standard library's client: a command that asks one question would spend more time on
importing a better one than on everything else.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote, urlencode

from volery.model.errors import Code, VoleryError

Json = dict[str, Any]
ERRORS_FROM = 400
OUTAGE_SECONDS = 20.0
"""How long a control plane that is being restarted by its shim is waited for."""


class BrokenOff(VoleryError):
    """An answer that did not come to its end: nobody refused anything."""


class Client:
    """Speaks to the control plane behind a Unix socket.

    Args:
        socket: the socket's path; may be longer than the 108 bytes a socket address holds.
        patient: wait for a control plane that does not answer now but may soon.
    """

    def __init__(self, socket: Path, *, patient: bool = False) -> None:
        self._socket = socket
        self._patient = patient

    @contextmanager
    def _asked(
        self, method: str, target: str, body: Json | None, timeout: float | None
    ) -> Iterator[HTTPResponse]:
        """One request on a connection of its own, and its answer while the block lasts.

        Raises:
            VoleryError: NO_CONTROL_PLANE, nobody listens.
            OSError, HTTPException: it broke off.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {"Connection": "close"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        with closing(_Connection("volery", timeout=timeout)) as connection:
            connection.sock = self._socket_connected(timeout)
            connection.request(method, target, content, headers)
            # Closed here: what is raised while Python closes it by itself, as by Ctrl-C, is lost.
            with connection.getresponse() as answer:
                yield answer

    def _socket_connected(self, timeout: float | None) -> socket.socket:
        try:
            folder = os.open(self._socket.parent, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            raise self._absent() from None
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(timeout)
        try:
            made.connect(f"/proc/self/fd/{folder}/{self._socket.name}")
        except OSError:
            made.close()
            raise self._absent() from None
        finally:
            os.close(folder)
        return made

    def get(self, path: str, **query: object) -> Json:
        """GET, as JSON."""
        return self._call("GET", _target(path, query))

    def post(self, path: str, body: Json | None = None, *, timeout: float = 600.0) -> Json:
        """POST, as JSON."""
        return self._call("POST", _target(path, {}), body or {}, timeout)

    def _call(
        self, method: str, target: str, body: Json | None = None, timeout: float = 30.0
    ) -> Json:
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                with self._asked(method, target, body, timeout) as answer:
                    return checked(Received(answer.status, answer.read()))
            except VoleryError as error:
                if error.code is not Code.NO_CONTROL_PLANE:
                    raise
                if not self._patient or time.monotonic() > deadline:
                    raise self._absent() from None
            except (OSError, HTTPException) as error:
                if method != "GET" or not self._patient or time.monotonic() >= deadline:
                    raise _broken_off(error or type(error).__name__) from None
            time.sleep(0.05)

    def stream(self, path: str, **query: object) -> Iterator[Json]:
        """The events of a stream, until it ends.

        Raises:
            VoleryError: refused.
            BrokenOff: before its end.
        """
        try:
            with self._asked("GET", _target(path, query), None, None) as answer:
                if answer.status >= ERRORS_FROM:
                    checked(Received(answer.status, answer.read()))
                yield from events_of(line.decode().rstrip("\r\n") for line in answer)
                if answer.chunk_left is not None:  # to `http.client` that is a whole body as well
                    raise _broken_off("in the middle")
        except (OSError, HTTPException) as error:
            raise _broken_off(error or type(error).__name__) from None

    def _absent(self) -> VoleryError:
        return VoleryError(
            "no control plane runs for this environment",
            code=Code.NO_CONTROL_PLANE,
            hint="volery up",
            where=str(self._socket.parent),
        )


class _Connection(HTTPConnection):
    """One whose socket is there already."""

    def connect(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Received:
    """An answer that was read to its end."""

    status_code: int
    content: bytes

    @property
    def is_error(self) -> bool:
        """Whether the status says so."""
        return self.status_code >= ERRORS_FROM

    def json(self) -> Any:
        """The body. Raises ValueError if it is no JSON."""
        return json.loads(self.content)


def _broken_off(why: object) -> BrokenOff:
    return BrokenOff(f"the control plane broke off: {why}", hint="volery status")


def _target(path: str, query: Mapping[str, object]) -> str:
    """A path with what is asked for; what is None is left out."""
    given = {key: str(value) for key, value in query.items() if value is not None}
    return quote(path, safe="/:@") + (f"?{urlencode(given)}" if given else "")


def events_of(lines: Iterable[str]) -> Iterator[Json]:
    """The events in the lines of a stream."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


class Answer(Protocol):
    """What is needed of a response."""

    @property
    def is_error(self) -> bool:
        """Whether the status says so."""

    @property
    def status_code(self) -> int:
        """The status."""

    def json(self) -> Any:
        """The body."""


def checked(response: Answer) -> Json:
    """The body of an answer. Raises the VoleryError that it is, if it is one."""
    if not response.is_error:
        return cast(Json, response.json())
    try:
        error = response.json()["error"]
        raise VoleryError(
            error["message"], code=Code(error["code"]), hint=error["hint"], where=error["where"]
        )
    except (ValueError, KeyError):
        raise VoleryError(
            f"the control plane answered {response.status_code}",
            hint="volery doctor; its log is in the environment's control folder",
        ) from None
