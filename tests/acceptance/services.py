"""Sources of services that tests put into a `Project`: one per protocol, and some that misbehave.

All are well-behaved at SIGTERM unless their name says otherwise. They run with the interpreter of
the tests, so that a service may use the libraries that come with Volery.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from acceptance.project import Project

HTTP = '''
"""HTTP/1.1: GET, chunked POST, a big download, and what a test asks it to do."""
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION, WARMUP = "{version}", {warmup}
time.sleep(WARMUP)
BIG = b"x" * 65536


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        if "/download" in self.path:
            self.head(64 * len(BIG))
            for _ in range(64):
                self.wfile.write(BIG)
        else:
            body = (VERSION + " " + os.environ["VOLERY_INSTANCE"]).encode()
            self.head(len(body))
            self.wfile.write(body)
        self.wfile.flush()

    def do_POST(self):
        total = 0
        while size := int(self.rfile.readline(), 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        body = b"received %d" % total
        self.head(len(body))
        self.wfile.write(body)
        self.wfile.flush()

    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Release", VERSION)
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening", VERSION, flush=True)
server.serve_forever()
'''

HTTP2 = '''
"""HTTP/2 by prior knowledge and nothing else: answers every request with its version."""
import asyncio, os, signal
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from h2.exceptions import ProtocolError

VERSION = b"{version}"


async def talk(reader, writer):
    mine = H2Connection(H2Configuration(client_side=False))
    mine.initiate_connection()
    writer.write(mine.data_to_send())
    try:
        while data := await reader.read(65536):
            for event in mine.receive_data(data):
                if isinstance(event, StreamEnded):
                    mine.send_headers(event.stream_id, [(":status", "200")])
                    mine.send_data(event.stream_id, VERSION, end_stream=True)
            writer.write(mine.data_to_send())
    except (ProtocolError, ConnectionError):
        pass
    writer.close()


async def main():
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await asyncio.start_server(talk, os.environ["HOST"], int(os.environ["PORT"]))
    await told.wait()


asyncio.run(main())
'''

WEBSOCKET = '''
"""WebSocket echo. Told to leave, it answers once more on each connection and then closes it."""
import asyncio, os, signal
from websockets.asyncio.server import serve

VERSION = "{version}"


async def main():
    leaving, open_now = asyncio.Event(), set()

    async def echo(connection):
        open_now.add(connection)
        try:
            async for message in connection:
                await connection.send(message)
                if leaving.is_set():
                    return
        finally:
            open_now.discard(connection)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    async with serve(echo, os.environ["HOST"], int(os.environ["PORT"])):
        await leaving.wait()
        for _ in range(50):
            if not open_now:
                break
            await asyncio.sleep(0.05)


asyncio.run(main())
'''

GRPC = '''
"""gRPC: echoes the message it gets, or every message of a stream."""
import os, signal, threading
from concurrent.futures import ThreadPoolExecutor
import grpc

VERSION = "{version}"


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method.endswith("/Stream"):
            return grpc.stream_stream_rpc_method_handler(lambda messages, _: messages)
        return grpc.unary_unary_rpc_method_handler(lambda message, _: message)


server = grpc.server(ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(os.environ["HOST"] + ":" + os.environ["PORT"])
server.start()
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
told.wait()
server.stop(2).wait()
'''

TCP = '''
"""TCP: answers one line with the same line, then closes, as a server does that must not lose."""
import os, signal, socketserver, threading

VERSION = "{version}"


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128


server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
'''


def install(
    project: Project,
    name: str,
    source: str,
    *,
    version: str = "1",
    warmup: float | str = 0,
    **block: Any,
) -> None:
    """Write (or rewrite) a service made of one Python file; its block when it is new.

    It listens after `warmup` seconds: a number, or a Python expression that knows `os.environ`.
    """
    folder = project.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(source.format(version=version, warmup=warmup))
    if name in project.manifest["services"]:
        return
    base: dict[str, Any] = {
        "source": f"./{name}",
        "run": f"{sys.executable} main.py",
        "health": {"ready": {"tcp": True}, "every": "200ms", "startup": "15s"},
        "stop": {"drain": "5s", "grace": "4s"},
    }
    project.manifest["services"][name] = base | block
    project.write()


def route(project: Project, name: str, path: str) -> None:
    """Let users reach a service under this path, which it sees too."""
    project.manifest["gateway"]["routes"].append({"path": path, "service": name})
    project.write()


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = (entry.decode().partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}
