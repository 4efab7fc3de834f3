"""A service that falls ill when told so: asked directly, instance by instance.

`GET /become/MODE` of one instance makes it fail every answer (`errors`), answer late (`slow`), keep
every request for ever (`hang`), grow by 1 MiB every tenth of a second (`leak`), say it is not ready
(`unready`) or end with code 3 (`crash`); `well` mends it. Its health is asked like any request.
With FATAL (its `warmup` above 0) it ends by itself so many seconds after it began; with the need
`store`, its health is whether that answers.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

from acceptance.project import Project

SICK = '''
"""Falls ill when told so."""
import os, signal, sys, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION, FATAL = "{version}", {warmup}
mode, kept = ["well"], []


def leak():
    while mode[0] == "leak":
        kept.append(bytearray(os.urandom(1024) * 1024))
        time.sleep(0.1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/become/"):
            mode[0] = self.path.rpartition("/")[2]
            if mode[0] == "crash":
                os._exit(3)
            if mode[0] == "leak":
                threading.Thread(target=leak, daemon=True).start()
            return self.say(200)
        if mode[0] == "hang":
            time.sleep(3600)
        if self.path == "/healthz":
            return self.say(503 if mode[0] == "unready" or not self.need_answers() else 200)
        if mode[0] == "slow":
            time.sleep(0.25)
        self.say(500 if mode[0] == "errors" else 200)

    def need_answers(self):
        need = os.environ.get("STORE_URL")
        if not need:
            return True
        try:
            return urllib.request.urlopen(need + "/", timeout=0.5).status == 200
        except OSError:
            return False

    def say(self, status):
        body = (VERSION + " " + os.environ["VOLERY_INSTANCE"]).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
if FATAL:
    threading.Timer(FATAL, lambda: os._exit(7)).start()
print("listening", VERSION, flush=True)
server.serve_forever()
'''

HEALTH = {"ready": "/healthz", "live": "/healthz", "timeout": "3s", "startup": "30s"}


def become(address: str, mode: str) -> None:
    """Tell one instance how it is from now on."""
    try:
        with urllib.request.urlopen(f"http://{address}/become/{mode}", timeout=5):
            return
    except (urllib.error.URLError, ConnectionError, OSError):
        if mode != "crash":
            raise


def instances(project: Project, service: str = "web") -> list[dict[str, Any]]:
    """What `status` says of them."""
    return list(project.status()["services"][service]["instances"])


def ready(project: Project, service: str = "web") -> list[str]:
    """The ids of those that are ready."""
    return [item["id"] for item in instances(project, service) if item["state"] == "ready"]


def events(project: Project, service: str | None = None) -> list[dict[str, Any]]:
    """The ledger, oldest first."""
    import json

    asked = ["--output", "json", "events", *([service] if service else [])]
    return [json.loads(line) for line in project.ok(*asked).out.splitlines()]


def heal_events(project: Project, kind: str, ailment: str) -> list[dict[str, Any]]:
    """Events of heals of one kind of ailment."""
    return [
        event
        for event in events(project)
        if event["kind"] == kind and event["data"].get("ailment") == ailment
    ]


def spent(since: float) -> float:
    """Seconds since a monotonic moment."""
    return time.monotonic() - since
