"""The way to a control plane: for the CLI and for anybody's script."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import httpx2

from volery.model.errors import Code, VoleryError

Json = dict[str, Any]
OUTAGE_SECONDS = 20.0
"""How long a control plane that is being restarted by its shim is waited for."""


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
    def _http(self, timeout: float | None) -> Iterator[httpx2.Client]:
        try:
            folder = os.open(self._socket.parent, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            raise self._absent() from None
        try:
            if not self._socket.exists():
                raise self._absent()
            short = f"/proc/self/fd/{folder}/{self._socket.name}"
            # No TLS over a Unix socket: loading the machine's certificates costs 27 ms a call.
            transport = httpx2.HTTPTransport(uds=short, verify=False)
            with httpx2.Client(
                transport=transport, base_url="http://volery", timeout=timeout
            ) as client:
                yield client
        finally:
            os.close(folder)

    def get(self, path: str, **query: object) -> Json:
        """GET, as JSON."""
        given = {key: str(value) for key, value in query.items() if value is not None}
        return self._call("GET", path, params=given)

    def post(self, path: str, body: Json | None = None, *, timeout: float = 600.0) -> Json:
        """POST, as JSON."""
        return self._call("POST", path, json=body or {}, timeout=timeout)

    def _call(self, method: str, path: str, timeout: float = 30.0, **request: Any) -> Json:
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                with self._http(timeout) as client:
                    return checked(client.request(method, path, **request))
            except (httpx2.ConnectError, VoleryError) as error:
                absent = isinstance(error, httpx2.ConnectError) or (
                    error.code is Code.NO_CONTROL_PLANE
                )
                if not absent:
                    raise
                if not self._patient or time.monotonic() > deadline:
                    raise self._absent() from None
                time.sleep(0.05)
            except httpx2.TransportError as error:
                if method == "GET" and self._patient and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise VoleryError(
                    f"the control plane broke off: {error or type(error).__name__}",
                    hint="volery status",
                ) from None

    def stream(self, path: str, **query: object) -> Iterator[Json]:
        """The events of a stream, until it ends."""
        given = {key: str(value) for key, value in query.items() if value is not None}
        try:
            with (
                self._http(None) as client,
                client.stream("GET", path, params=given) as response,
            ):
                if response.is_error:
                    response.read()
                    checked(response)
                yield from events_of(response.iter_lines())
        except httpx2.ConnectError:
            raise self._absent() from None
        except httpx2.TransportError:
            return

    def _absent(self) -> VoleryError:
        return VoleryError(
            "no control plane runs for this environment",
            code=Code.NO_CONTROL_PLANE,
            hint="volery up",
            where=str(self._socket.parent),
        )


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
