"""HTTP/1.1: answers with its version and process id; takes uploads, gives downloads."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = Path(__file__).with_name("version").read_text().strip()
PIECE = b"x" * 65536
PIECES = 64


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path.startswith("/download"):
            self.head(PIECES * len(PIECE))
            for _ in range(PIECES):
                self.wfile.write(PIECE)
            self.wfile.flush()
        else:
            self.answer(f"{VERSION} {os.getpid()}".encode())

    def do_POST(self) -> None:
        total = 0
        while size := int(self.rfile.readline(), 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self.answer(b"received %d" % total)

    def answer(self, body: bytes) -> None:
        self.head(len(body))
        self.wfile.write(body)
        self.wfile.flush()

    def head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Release", VERSION)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 128


server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.05)
