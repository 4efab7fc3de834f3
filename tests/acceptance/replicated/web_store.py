"""A tiny replicated store that speaks HTTP, as a service for tests: numbers in a file.

`POST /add/N` answers 200 once a replica has it too; `GET /all` and `GET /who` are for everybody.
Replicas ask the primary (through their own service's address) for what they lack, over and over:
`GET /log/LENGTH` is also how the primary hears how much they have. A replica that starts copies
everything anew. `promote`, `demote` (no more writes) and `role` are what its manifest runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VOLUME = Path(os.environ["VOLERY_VOLUME"])
LOG, TERM = VOLUME / "log", VOLUME / "term"
OWN = f"http://{os.environ['HOST']}:{os.environ['PORT']}"


class Store:
    """The numbers, in memory and on disk."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        stored = int(TERM.read_text()) if TERM.exists() else 0
        told = os.environ["VOLERY_ROLE"] == "primary"
        self.primary = told or stored > int(os.environ["VOLERY_TERM"])
        self.closed = False
        self.behind = not self.primary
        self.numbers: list[int] = []
        self.copied = 0
        if self.primary and LOG.exists():
            self.numbers = [int(line) for line in LOG.read_text().split()]
        else:
            LOG.write_text("")

    @property
    def role(self) -> str:
        return "primary" if self.primary else "syncing" if self.behind else "replica"

    def append(self, *numbers: int) -> None:
        with self.changed, LOG.open("a") as file:
            file.write("".join(f"{number}\n" for number in numbers))
            self.numbers += numbers

    def add(self, number: int) -> bool:
        with self.changed:
            if not self.primary or self.closed:
                return False
            self.append(number)
            wanted = len(self.numbers)
            return self.changed.wait_for(lambda: self.copied >= wanted, timeout=5)

    def close(self) -> None:
        with self.changed:
            self.closed = True

    def log(self, length: int) -> list[int]:
        with self.changed:
            self.copied = max(self.copied, length)
            self.changed.notify_all()
        return self.numbers[length:]

    def follow(self) -> None:
        while not self.primary:
            with contextlib.suppress(OSError, ValueError):
                found = fetch(f"{os.environ['STORE_URL']}/log/{len(self.numbers)}")
                if found["role"] == "primary" and not self.primary:
                    self.append(*found["numbers"])
                    self.behind = bool(self.behind and found["numbers"])
            time.sleep(0.01)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        words = self.path.split("/")[1:]
        role, length = STORE.role, len(STORE.numbers)
        if words[0] == "log":
            return self.say(200, {"role": role, "numbers": STORE.log(int(words[1]))})
        if words[0] == "all":
            return self.say(200, STORE.numbers)
        return self.say(200, {"role": role, "length": length, "me": os.environ["VOLERY_INSTANCE"]})

    def do_POST(self) -> None:
        words = self.path.split("/")[1:]
        if words[0] == "add":
            return self.say(200 if STORE.add(int(words[1])) else 503, {})
        if words[0] == "demote":
            STORE.close()
            return self.say(200, {})
        TERM.write_text(words[1])
        STORE.primary, STORE.copied = True, 0
        return self.say(200, {})

    def say(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def fetch(url: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(url, data, timeout=5) as answer:
        return json.load(answer)


def command(verb: str) -> None:
    if verb == "promote":
        fetch(f"{OWN}/promote/{os.environ['VOLERY_TERM']}", b"")
    elif verb == "demote":
        fetch(f"{OWN}/demote", b"")
    else:
        found = fetch(f"{OWN}/who")
        print(found["role"], found["length"])


if len(sys.argv) > 1:
    command(sys.argv[1])
else:
    STORE = Store()
    threading.Thread(target=STORE.follow, daemon=True).start()
    server = ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
    server.daemon_threads = True
    server.serve_forever()
