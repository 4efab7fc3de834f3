"""A real gRPC server, without generated code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc


class Birds(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """A real gRPC server of bytes; every fourth call of `/b.B/Fails` is UNAVAILABLE."""

    calls = 0

    def service(self, details: Any) -> Any:
        kinds: dict[str, Callable[[], Any]] = {
            "/b.B/Echo": lambda: grpc.unary_unary_rpc_method_handler(self.echo),
            "/b.B/Fails": lambda: grpc.unary_unary_rpc_method_handler(self.fails),
            "/b.B/Three": lambda: grpc.unary_stream_rpc_method_handler(lambda q, _: iter([q] * 3)),
            "/b.B/Talk": lambda: grpc.stream_stream_rpc_method_handler(lambda q, _: q),
            "/b.B/Short": lambda: grpc.stream_stream_rpc_method_handler(self.short),
        }
        make = kinds.get(details.method)
        return make and make()

    def echo(self, request: bytes, context: Any) -> bytes:
        context.send_initial_metadata([("x-release", "birds@1")])
        return request

    def fails(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        if self.calls % 4 == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "all have flown")
        return request

    def short(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield next(requests)


@contextmanager
def birds() -> Iterator[int]:
    """The server, running; yields its port."""
    server = grpc.server(ThreadPoolExecutor(max_workers=40), handlers=[Birds()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
