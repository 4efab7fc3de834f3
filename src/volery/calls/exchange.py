"""One HTTP request and its answer: within a time limit, bounded, no redirect followed.

Used by `caller` alone, which says when and how often. Each is a fresh connection, so that one
answer never depends on an earlier one; no cookie is kept and no proxy of the environment is used.
User and password of a URL are sent as basic authentication. What is no HTTP answer is `NoReply`,
with the reason in a few words.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx2

from volery.model.units import format_duration

HEADERS = {"user-agent": "volery", "accept-encoding": "identity", "connection": "close"}


class NoReply(Exception):
    """Why there is no HTTP answer. `reached`: the server may have got the request; `late`: its
    time is over."""

    def __init__(self, text: str, *, reached: bool = False, late: bool = False) -> None:
        super().__init__(text)
        self.reached = reached
        self.late = late


@dataclass(frozen=True)
class Request:
    """What to send, and how much of the answer to take."""

    method: str
    url: str
    bytes_max: int
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] | None = None
    body_seconds: float | None = None
    """How long a body may take to come once the head is there; by default all that is left."""
    tries: int = 1
    """How often it may be sent, where that can do no harm."""


@dataclass(frozen=True)
class Reply:
    """An answer; `whole` is false if only the beginning of its body was taken. `note`: what else is
    to be said about how it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    note: str = ""


async def exchange(request: Request, seconds: float) -> Reply:
    """Send it and take the answer.

    Raises:
        NoReply: no HTTP answer came within `seconds`.
    """
    where = address_of(request.url)
    reached = asyncio.Event()
    try:
        async with asyncio.timeout(seconds), _client(request.url) as client:
            return await _sent(client, request, reached)
    except TimeoutError:
        text = f"{where}: no answer within {format_duration(seconds)}"
        raise NoReply(text, reached=reached.is_set(), late=True) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
        raise NoReply(f"{where}: {_why(error)}", reached=reached.is_set()) from error


def address_of(url: str) -> str:
    """A URL without user, password and query: what may be shown of it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _client(url: str) -> httpx2.AsyncClient:
    trust = _tls() if urlsplit(url).scheme == "https" else _no_tls()
    return httpx2.AsyncClient(verify=trust, trust_env=False, timeout=None, headers=HEADERS)


@lru_cache(1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@lru_cache(1)
def _no_tls() -> ssl.SSLContext:
    """Never used, but quicker to make than one that knows all authorities."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _sent(client: httpx2.AsyncClient, request: Request, reached: asyncio.Event) -> Reply:
    async def trace(name: str, _: Mapping[str, Any]) -> None:
        if name.endswith(".send_request_headers.started"):
            reached.set()

    async with client.stream(
        request.method,
        request.url,
        content=request.body,
        headers=dict(request.headers),
        params=dict(request.query) if request.query else None,
        extensions={"trace": trace},
    ) as response:
        body = bytearray()
        whole = False
        try:
            async with asyncio.timeout(request.body_seconds):
                whole = await _read(response, body, request.bytes_max)
        except TimeoutError:
            if request.body_seconds is None:
                raise
        return Reply(response.status_code, response.headers, bytes(body), whole)


async def _read(response: httpx2.Response, body: bytearray, bytes_max: int) -> bool:
    """Take the body as it comes, never unpacked; whether it was all."""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > bytes_max:
            del body[bytes_max:]
            return False
    return True


def _why(error: BaseException) -> str:
    """In a few words; the innermost reason of the operating system says most."""
    known = [cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno]
    if not known:
        return str(error) or type(error).__name__
    return _in_words(known[-1])


def _in_words(error: OSError) -> str:
    number = error.errno or 0
    if isinstance(error, ssl.SSLError):  # its numbers are none of the operating system
        said = getattr(error, "verify_message", "") or error.reason or error.strerror
    elif number > 0:
        said = os.strerror(number)
    else:
        said = error.strerror  # a name that cannot be looked up
    return str(said).lower()


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for cause in (error.__cause__, error.__context__, *inner):
        if cause is not None:
            yield from _causes(cause)
