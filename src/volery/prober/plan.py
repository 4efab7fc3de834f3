"""What to send: a plan is streams of requests, each at its own steady rate, for a bounded time.

A plan that could harm is refused before anything is sent: targets other than this machine (unless
`allow_remote`), more than an hour, more than 10,000 requests a second.

Terms: a *stream* is one kind of request to one URL; *span* is how long one slow request stays in
flight on purpose; *marker* is what an answer carries to say which release gave it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from volery.model.errors import Code, VoleryError

MAX_SECONDS = 3600.0
MAX_RATE = 10_000.0
MAX_PAYLOAD = 16 * 1024 * 1024


class Kind(StrEnum):
    """What one request of a stream is."""

    HTTP1 = "http1"
    """HTTP/1.1 on kept-alive connections."""
    HTTP1_FRESH = "http1-fresh"
    """HTTP/1.1, a new connection for every request."""
    HTTP2 = "http2"
    """HTTP/2 with prior knowledge, many requests at once on one connection."""
    GRPC = "grpc"
    """gRPC, one message each way; the method is the path of the URL."""
    GRPC_STREAM = "grpc-stream"
    """gRPC, one message to the server, `pieces` messages (if given) back."""
    GRPC_BIDI = "grpc-bidi"
    """gRPC, `pieces` messages sent over `span`, as many expected back."""
    WEBSOCKET = "websocket"
    """One message and its echo, on kept connections."""
    UPLOAD = "upload"
    """HTTP/1.1 POST whose chunked body trickles out in `pieces` over `span`."""
    DOWNLOAD = "download"
    """HTTP/1.1 GET whose body is read in `pieces` over `span`."""
    LINE = "line"
    """TCP: one line and the line that answers it, on kept connections."""


SLOW = {Kind.UPLOAD: 2.0, Kind.DOWNLOAD: 2.0, Kind.GRPC_BIDI: 2.0}
ECHO = frozenset({Kind.WEBSOCKET, Kind.LINE})
_SCHEMES = {Kind.WEBSOCKET: ("ws", "http"), Kind.LINE: ("tcp",)}
_GRPC = (Kind.GRPC, Kind.GRPC_STREAM, Kind.GRPC_BIDI)


@dataclass(frozen=True)
class Stream:
    """Requests of one kind to one URL, at a steady rate.

    Args:
        kind: what one request is.
        url: `http://host:port/path`; `ws://` for websocket, `tcp://` for line.
        rate: requests a second.
        name: how the report calls it; by default the kind.
        method: of HTTP; by default GET, or POST when there is a payload.
        payload: what is sent; `{n}` becomes the number of the request. Echo kinds have a default.
        headers: more request headers.
        timeout: seconds for one whole request, connecting included, beyond its `span`.
        span: seconds a slow kind takes on purpose (None: 2 s for slow kinds).
        pieces: chunks of an upload or download, messages of a gRPC stream (None: 10, or for
            `grpc-stream` any number).
        echo: whether the answer must equal the payload (None: yes for websocket and line).
        expect: bytes the answer must contain.
        connections: how many connections to keep and take turns on.
        max_in_flight: safety stop; a request due beyond it fails as `client_saturated`.
        ok_status: HTTP statuses that are right besides 200 to 399.
    """

    kind: Kind
    url: str
    rate: float
    name: str = ""
    method: str = ""
    payload: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = 10.0
    span: float | None = None
    pieces: int | None = None
    echo: bool | None = None
    expect: bytes = b""
    connections: int = 1
    max_in_flight: int = 1000
    ok_status: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Its name in the report."""
        return self.name or self.kind.value

    @property
    def parts(self) -> SplitResult:
        """The URL, taken apart."""
        return urlsplit(self.url)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to; `localhost` is 127.0.0.1, where Volery listens."""
        host = self.parts.hostname or ""
        return "127.0.0.1" if host == "localhost" else host, self.parts.port or 80

    @property
    def path(self) -> str:
        """Path and query to ask for."""
        query = f"?{self.parts.query}" if self.parts.query else ""
        return (self.parts.path or "/") + query

    @property
    def spans(self) -> float:
        """Seconds a request takes on purpose."""
        return SLOW.get(self.kind, 0.0) if self.span is None else self.span

    @property
    def portions(self) -> int:
        """In how many pieces a request or its answer comes; 0: any number."""
        return self.pieces or (0 if self.kind is Kind.GRPC_STREAM else 10)

    @property
    def verb(self) -> str:
        """The HTTP method."""
        sends = self.payload or self.kind is Kind.UPLOAD or self.kind in _GRPC
        return self.method or ("POST" if sends else "GET")

    @property
    def echoes(self) -> bool:
        """Whether an answer must equal what was sent."""
        return self.kind in ECHO if self.echo is None else self.echo

    def body(self, number: int) -> bytes:
        """What request `number` sends."""
        text = self.payload or (b"ping {n}" if self.kind in ECHO else b"")
        if self.kind is Kind.UPLOAD and not text:
            text = b"feather " * 8192
        return text.replace(b"{n}", str(number).encode())


@dataclass(frozen=True)
class ProbePlan:
    """Streams that run side by side for `seconds`.

    Args:
        streams: what to send.
        seconds: how long requests are started; those in flight then are waited for.
        arrivals: `poisson` (like independent users) or `constant`.
        seed: makes the start times the same in every run.
        marker_header: response header (or gRPC metadata) that names the release.
        marker_field: top-level field of a JSON answer that names it, if the header is missing.
        allow_remote: also probe targets that are not this machine.
    """

    streams: tuple[Stream, ...]
    seconds: float = 10.0
    arrivals: Literal["poisson", "constant"] = "poisson"
    seed: int = 1
    marker_header: str = "x-release"
    marker_field: str = ""
    allow_remote: bool = False

    def checked(self) -> ProbePlan:
        """The same plan with distinct stream names.

        Raises:
            VoleryError: it is out of bounds or would leave this machine.
        """
        wrong = next(self._mistakes(), None)
        if wrong:
            raise VoleryError(
                wrong, code=Code.INVALID, hint="volery probe --help", where="probe plan"
            )
        if not self.allow_remote:
            for stream in self.streams:
                _refuse_remote(stream)
        return replace(self, streams=_distinct(self.streams))

    def _mistakes(self) -> Iterator[str]:
        if not self.streams:
            yield "a probe needs at least one stream"
        if not 0 < self.seconds <= MAX_SECONDS:
            yield f"a probe lasts more than 0 and at most {MAX_SECONDS:g} s, got {self.seconds:g}"
        for stream in self.streams:
            yield from (f"stream {stream.label}: {text}" for text in _mistakes(stream))
        total = sum(stream.rate for stream in self.streams)
        if not total <= MAX_RATE:
            yield f"a probe sends at most {MAX_RATE:g} requests a second, got {total:g}"


def _mistakes(stream: Stream) -> Iterator[str]:
    schemes = _SCHEMES.get(stream.kind, ("http",))
    if stream.parts.scheme not in schemes or not stream.parts.hostname:
        yield f"needs a URL such as {schemes[0]}://127.0.0.1:8080/, got {stream.url!r}"
    elif _port(stream) is None:
        yield f"needs a port from 1 to 65535, got {stream.url!r}"
    if not (stream.rate > 0 and math.isfinite(stream.rate)):
        yield f"rate must be above 0, got {stream.rate:g}"
    if not 0 < stream.timeout <= MAX_SECONDS or not 0 <= stream.spans <= MAX_SECONDS:
        yield "timeout and span must be above 0 and at most an hour"
    if len(stream.payload) > MAX_PAYLOAD:
        yield f"payload may have {MAX_PAYLOAD} bytes, got {len(stream.payload)}"
    if not 1 <= stream.max_in_flight <= MAX_RATE or not 1 <= stream.connections <= 1000:
        yield "max_in_flight must be 1 to 10000 and connections 1 to 1000"
    if stream.pieces is not None and not 1 <= stream.pieces <= 100_000:
        yield f"pieces must be 1 to 100000, got {stream.pieces}"
    head = "".join(
        (stream.method, stream.path, *(part for pair in stream.headers for part in pair))
    )
    if any(character in head for character in "\r\n\0"):
        yield "method, path and headers must not contain line breaks"


def _port(stream: Stream) -> int | None:
    try:
        port = stream.parts.port
    except ValueError:
        return None
    return 80 if port is None else port or None


def _refuse_remote(stream: Stream) -> None:
    host = stream.address[0]
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise VoleryError(
            f"{host} is not this machine, and a probe is load",
            code=Code.REFUSED,
            hint="allow remote targets explicitly if they are yours to load",
            where=f"stream {stream.label}",
        )


def _distinct(streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
    seen: dict[str, int] = {}
    named = []
    for stream in streams:
        seen[stream.label] = count = seen.get(stream.label, 0) + 1
        named.append(replace(stream, name=stream.label + (f"-{count}" if count > 1 else "")))
    return tuple(named)
