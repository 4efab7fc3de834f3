"""The cart: who wants what. Lines over TCP, kept in a file that survives.

    SET anna wren  ->  OK             GET anna  ->  VALUE wren, or NONE
    PING hello     ->  PING hello

Every SET is a line at the end of the file, on disk before it is answered. A line that a crash has
cut short was never answered, so it is dropped when the file is read again.
"""

import os
import signal
import socket
import socketserver
import threading
from pathlib import Path

LONGEST = 4096


class Store:
    """Keys and values, in memory and in a file."""

    def __init__(self, path):
        self.values = {}
        self.lock = threading.Lock()
        path.touch()
        kept = path.read_bytes()
        whole = kept[: kept.rfind(b"\n") + 1]
        for line in whole.decode().splitlines():
            key, _, value = line.partition(" ")
            self.values[key] = value
        self.file = path.open("r+b", buffering=0)
        self.file.truncate(len(whole))
        self.file.seek(len(whole))

    def set(self, key, value):
        """Keep a value for good."""
        with self.lock:
            self.file.write(f"{key} {value}\n".encode())
            os.fsync(self.file.fileno())
            self.values[key] = value


def answer(store, line):
    """The answer to a line."""
    word, _, rest = line.partition(" ")
    key, _, value = rest.partition(" ")
    match word.upper():
        case "PING":
            return line
        case "GET" if key and not value:
            return f"VALUE {store.values[key]}" if key in store.values else "NONE"
        case "SET" if key and value:
            store.set(key, value)
            return "OK"
    return "ERROR say SET key value, GET key, or PING"


class Connection(socketserver.StreamRequestHandler):
    """Answers one line after the other."""

    disable_nagle_algorithm = True

    def handle(self):
        self.server.open.add(self.connection)
        if self.server.stopping:
            hang_up(self.connection)
        while (line := self.rfile.readline(LONGEST)).endswith(b"\n"):
            said = answer(self.server.store, line.decode("utf-8", "replace").rstrip("\r\n"))
            self.wfile.write(said.encode() + b"\n")

    def finish(self):
        self.server.open.discard(self.connection)
        super().finish()


class Server(socketserver.ThreadingTCPServer):
    """One thread for each connection; at the end, waits for them."""

    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, store):
        self.store = store
        self.open = set()
        self.stopping = False
        super().__init__((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])), Connection)

    def stop(self, *_):
        """Take nothing new in. Lines that have arrived are still answered."""
        self.stopping = True
        threading.Thread(target=self.shutdown).start()
        for connection in list(self.open):
            hang_up(connection)


def hang_up(connection):
    """Read what has arrived, and no more."""
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # it has just ended by itself


def main():
    """Serve until SIGTERM."""
    store = Store(Path(os.environ.get("VOLERY_VOLUME", ".")) / "cart.log")
    server = Server(store)
    signal.signal(signal.SIGTERM, server.stop)
    print(f"{len(store.values)} wishes, listens on port {server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
