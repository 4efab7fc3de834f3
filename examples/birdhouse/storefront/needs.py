"""What the storefront asks of others, at the addresses that Volery gives it.

Every call has a deadline. Tracing headers are passed on, so that Volery can follow, and fail, one
request on all its way.
"""

import json
import os
import socket
import urllib.request
from functools import cache
from urllib.parse import urlsplit

import grpc

PASSED_ON = ("traceparent", "tracestate", "baggage", "x-request-id")


def passed_on(headers):
    """The headers of a request that go along with what is asked because of it."""
    return {name: headers[name] for name in PASSED_ON if headers.get(name)}


def birds(headers):
    """All birds, from catalog."""
    return json.loads(_get(os.environ["CATALOG_URL"] + "/birds", headers, timeout=5))


def quote(headers):
    """A saying, from quotes."""
    return _get(os.environ["QUOTES_URL"] + "/quote", headers, timeout=0.5).decode().strip()


def ratings(headers):
    """Stars by bird, from ratings."""
    ask = _ratings().unary_unary("/birdhouse.Ratings/All")
    return json.loads(ask(b"{}", timeout=1, metadata=list(passed_on(headers).items())))


def cart(line):
    """The answer to one line, from cart."""
    address = urlsplit(os.environ["CART_URL"])
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(line.encode() + b"\n")
        answer = connection.makefile("rb").readline()
    if not answer.endswith(b"\n"):
        raise OSError("cart did not answer")
    return answer.decode().strip()


def _get(url, headers, timeout):
    request = urllib.request.Request(url, headers=passed_on(headers))
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


@cache
def _ratings():
    patience = [("grpc.max_reconnect_backoff_ms", 500)]
    return grpc.insecure_channel(urlsplit(os.environ["RATINGS_URL"]).netloc, options=patience)
