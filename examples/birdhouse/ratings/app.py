"""Ratings: what people think of the birds. gRPC whose messages are JSON, without generated code."""

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

try:
    import grpc
except ImportError:
    sys.exit(f"{sys.executable} has no gRPC; install it with: python3 -m pip install grpcio")

RELEASE = os.environ.get("VOLERY_RELEASE", "unknown")
STARS = {"wren": 4.6, "blue-tit": 4.4, "robin": 4.8, "starling": 3.9, "barn-owl": 4.7}


def everything(request, context):
    """All stars, in one message."""
    name_release(context)
    return json.dumps(STARS).encode()


def watch(request, context):
    """One bird after the other, for two seconds."""
    name_release(context)
    for name, stars in STARS.items():
        yield json.dumps({name: stars}).encode()
        time.sleep(0.4)


def chat(requests, context):
    """Every message back, as it comes."""
    name_release(context)
    yield from requests


def name_release(context):
    context.send_initial_metadata([("x-release", RELEASE)])


class Ratings(grpc.GenericRpcHandler):
    """Finds who handles a method."""

    methods = {
        "/birdhouse.Ratings/All": grpc.unary_unary_rpc_method_handler(everything),
        "/birdhouse.Ratings/Watch": grpc.unary_stream_rpc_method_handler(watch),
        "/birdhouse.Ratings/Chat": grpc.stream_stream_rpc_method_handler(chat),
    }

    def service(self, details):
        return self.methods.get(details.method)


def main():
    """Serve until SIGTERM, then finish the calls in flight."""
    options = [("grpc.so_reuseport", 0)]  # a port that is taken is an error, not a share
    server = grpc.server(ThreadPoolExecutor(max_workers=64), handlers=[Ratings()], options=options)
    server.add_insecure_port(f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ['PORT']}")
    asked_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.set())
    server.start()
    print(f"{RELEASE} listens on port {os.environ['PORT']}", flush=True)
    asked_to_stop.wait()
    server.stop(grace=8).wait()
    print(f"{RELEASE} has finished", flush=True)


if __name__ == "__main__":
    main()
