"""gRPC: echoes the message it gets, or every message of a stream."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc


class Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # it has no types
    """Answers every method."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if details.method.endswith("/Stream"):
            return grpc.stream_stream_rpc_method_handler(same_stream)
        return grpc.unary_unary_rpc_method_handler(same)


def same(message: bytes, _: grpc.ServicerContext) -> bytes:
    return message


def same_stream(messages: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    return messages


server = grpc.server(ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(f"{os.environ['HOST']}:{os.environ['PORT']}")
server.start()
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
told.wait()
server.stop(2).wait()
