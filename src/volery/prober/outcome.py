"""How one request can end: an `Answer`, or a `Failure` with its cause.

Causes are short words that can be counted: `refused`, `reset`, `closed_before_answer`,
`truncated_head`, `truncated_body`, `timeout`, `malformed`, `bad_echo`, `bad_answer`, `status_503`,
`grpc_14`, `ws_closed_1012`, `goaway`, `connect_failed`, `client_saturated`. Nothing here retries.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from volery.prober.plan import ProbePlan, Stream

EXCERPT = 160
KEPT = 64 * 1024
_OURS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class Failure(Exception):
    """A request that got no right answer: a countable cause and a line of detail."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class NotProcessed(Exception):
    """The server promised that it did not process this request: a new connection may take it."""


@dataclass(frozen=True)
class Answer:
    """What came back, complete. `body` holds the first bytes of it, `size` counts all."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    size: int = 0


class Body:
    """Collects an answer's body, keeping only as much as the checks need."""

    def __init__(self, sent: bytes = b"") -> None:
        self.size = 0
        self.kept = bytearray()
        self._limit = max(KEPT, len(sent) + 1)

    def add(self, data: bytes) -> None:
        """Count a piece of the body."""
        self.size += len(data)
        if len(self.kept) < self._limit:
            self.kept += data[: self._limit - len(self.kept)]


def connecting_failed(error: OSError) -> Failure:
    """Why no connection came about; exhausted resources of this machine are no server's fault."""
    if isinstance(error, ConnectionRefusedError):
        return Failure("refused", "nobody listens")
    if isinstance(error, ConnectionResetError):
        return Failure("reset", "while connecting")
    if isinstance(error, TimeoutError):
        return Failure("timeout", "while connecting")
    if error.errno in _OURS:
        return Failure("client_saturated", f"cannot connect: {error.strerror}")
    return Failure("connect_failed", str(error))


def check_status(stream: Stream, status: int, answer: Answer) -> None:
    """Raise unless the HTTP status is right; the detail says what the server or proxy said."""
    if 200 <= status < 400 or status in stream.ok_status:
        return
    flags = [
        f"{name}={value}"
        for name, value in answer.headers.items()
        if name.endswith(("response-flags", "response-code-details"))
    ]
    raise Failure(f"status_{status}", " ".join((*flags, excerpt(answer.body))))


def check_content(stream: Stream, sent: bytes, body: bytes) -> None:
    """Raise unless the answer is what this stream asks for."""
    if stream.echoes and body != sent:
        raise Failure("bad_echo", f"sent {excerpt(sent)!r}, got {excerpt(body)!r}")
    if stream.expect and stream.expect not in body:
        raise Failure("bad_answer", f"no {excerpt(stream.expect)!r} in {excerpt(body)!r}")


def excerpt(data: bytes) -> str:
    """The beginning of an answer on one line."""
    return " ".join(data[:EXCERPT].decode("utf-8", "replace").split())


def marker(plan: ProbePlan, answer: Answer) -> str | None:
    """Which release answered, if the answer says so."""
    named = answer.headers.get(plan.marker_header.lower())
    if named is not None or not plan.marker_field:
        return named
    try:
        fields = json.loads(answer.body)
    except ValueError:
        return None
    found = fields.get(plan.marker_field) if isinstance(fields, dict) else None
    return None if found is None else str(found)
