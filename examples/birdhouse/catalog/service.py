"""How a well-behaved HTTP service behaves, with nothing but the standard library.

It listens on $HOST:$PORT and keeps connections alive. An answer goes out in one write and without
Nagle's delay, and names the release it came from. SIGTERM lets requests in flight finish first.

catalog and storefront have the same copy of this file: each folder stands alone.
"""

import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VARIANT = os.environ.get("VARIANT", "")
RELEASE = os.environ.get("VOLERY_RELEASE", "unknown")


class Handler(BaseHTTPRequestHandler):
    """Reads requests and writes answers; `do_GET` and `do_POST` are up to the service."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024  # collect head and body; they are flushed together after each request

    def reply(self, status, body, kind="application/json"):
        """Answer. What is not bytes becomes JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.start_reply(status, kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def start_reply(self, status, kind):
        """The head of an answer, but for the headers that tell its length."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("x-release", RELEASE)
        if self.server.stopping:
            self.send_header("connection", "close")

    def body(self):
        """The body of the request, a piece at a time."""
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            left = int(self.headers.get("content-length", 0))
            while left > 0 and (piece := self.rfile.read(min(left, 65536))):
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    # A connection is idle while it waits for a request. Only those are ended by SIGTERM.

    def handle_one_request(self):
        self.server.rest(self.connection)
        super().handle_one_request()
        self.server.idle.discard(self.connection)

    def parse_request(self):
        self.server.idle.discard(self.connection)
        if not super().parse_request():
            return False
        trouble = self.trouble()
        if trouble:
            for _ in self.body():
                pass
            self.reply(*trouble)
            self.wfile.flush()
        return not trouble

    def trouble(self):
        """Status and answer of a variant that answers instead of the service."""
        if self.path == "/healthz":
            if VARIANT == "crash-loop":
                self.server.doom()
            return (503, {"state": "never ready"}) if VARIANT == "never-ready" else None
        number = next(self.server.requests)
        if VARIANT == "slow":
            time.sleep(0.3)
        if VARIANT == "slow-tail" and number % 20 == 0:
            time.sleep(2)
        if VARIANT == "errors" and number % 5 == 0:
            return 500, {"error": "something is wrong in here"}
        return None

    def handle_expect_100(self):
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_message(self, text, *values):
        """Say nothing about every request; Volery counts them."""


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    daemon_threads = False  # at the end, wait for them
    request_queue_size = 256

    def __init__(self, handler):
        self.idle = set()
        self.stopping = self.doomed = False
        self.requests = itertools.count(1)
        address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]))
        super().__init__(address, handler)

    def doom(self):
        """Crash some seconds from now: this variant is well only at first."""
        if not self.doomed:
            self.doomed = True
            threading.Timer(3, crash).start()

    def rest(self, connection):
        """Nothing is in flight on this connection; SIGTERM may end it."""
        self.idle.add(connection)
        if self.stopping:
            hang_up(connection)

    def stop(self, *_):
        """Take no new connections, end idle ones, let the others finish."""
        self.stopping = True
        threading.Thread(target=self.shutdown).start()
        for connection in list(self.idle):
            hang_up(connection)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # somebody hung up: no news
            super().handle_error(request, client_address)


def hang_up(connection):
    """Read what has arrived, and no more."""
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # it has just ended by itself


def crash():
    """End as a crash does: at once, whatever is in flight."""
    print("the nest fell down (this is the variant `crash-loop`)", file=sys.stderr, flush=True)
    os._exit(1)


def leak():
    """Grow, and never shrink."""
    hoard = []
    while len(hoard) < 64:
        hoard.append(b"x" * (8 * 1024 * 1024))
        time.sleep(1)


def serve(handler):
    """Serve until SIGTERM."""
    if VARIANT == "crash":
        sys.exit("cannot find the nest (this is the variant `crash`)")
    if VARIANT == "leak":
        threading.Thread(target=leak, daemon=True).start()
    server = Server(handler)
    signal.signal(signal.SIGTERM, server.stop)
    print(f"{RELEASE} listens on port {server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    print(f"{RELEASE} has finished", flush=True)
