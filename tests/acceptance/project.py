"""A throw-away application and the `volery` command as a user types it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

DEADLINE_SECONDS = 90.0

SERVER = """
import json, os, signal, sys, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "{version}"
MODE = "{mode}"
state = {{"ready": MODE != "never-ready"}}

if MODE == "crash":
    print("cannot find the config", flush=True)
    sys.exit(7)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/healthz":
            return self.answer(200 if state["ready"] else 503, "health")
        if path == "/env":
            return self.answer(200, json.dumps(dict(os.environ)))
        if path == "/slow":
            time.sleep(float(query or 1))
        if path == "/print":
            print(query, flush=True)
        if path.startswith("/call/"):
            need = path.removeprefix("/call/").upper().replace("-", "_") + "_URL"
            with urllib.request.urlopen(os.environ[need] + "/", timeout=5) as answer:
                return self.answer(200, answer.read().decode())
        self.answer(200, json.dumps({{
            "service": os.environ["VOLERY_SERVICE"], "version": VERSION, "path": self.path,
            "instance": os.environ["VOLERY_INSTANCE"]}}))

    do_POST = do_GET

    def answer(self, status, text):
        body = text.encode()
        head = f"HTTP/1.1 {{status}} X\\r\\nContent-Length: {{len(body)}}\\r\\n\\r\\n".encode()
        self.wfile.write(head + body)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening", VERSION, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return self.out + self.err


class Project:
    """A folder with services and a manifest, a home of its own, and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "app"
        self.home = folder / "home"
        self.folder.mkdir()
        self.port = free_port()
        self.manifest: dict[str, Any] = {
            "app": "trial",
            "gateway": {"port": self.port, "routes": []},
            "services": {},
        }

    def service(self, name: str, version: str = "1", mode: str = "good", **body: Any) -> None:
        """Write (or rewrite) a service's source, and its manifest block when it is new."""
        source = self.folder / name
        source.mkdir(exist_ok=True)
        (source / "server.py").write_text(SERVER.format(version=version, mode=mode))
        if name not in self.manifest["services"]:
            block = {
                "source": f"./{name}",
                "run": "python3 server.py",
                "health": {"ready": "/healthz", "every": "200ms", "startup": "30s"},
                "stop": {"drain": "5s", "grace": "3s"},
            }
            self.manifest["services"][name] = block | body
            route = {"path": f"/{name}", "service": name, "strip": f"/{name}"}
            self.manifest["gateway"]["routes"].append(route)
        self.write()

    def write(self) -> None:
        (self.folder / "volery.yaml").write_text(yaml.safe_dump(self.manifest, sort_keys=False))

    def environment(self) -> dict[str, str]:
        keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        return keep | {"VOLERY_HOME": str(self.home), "NO_COLOR": "1"}

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start the command without waiting for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "volery", *arguments],
            cwd=self.folder,
            env=self.environment() | more.pop("env", {}),
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def volery(self, *arguments: str, text: str | None = None, **more: Any) -> Result:
        """Run the command to its end."""
        stdin = subprocess.PIPE if text is not None else subprocess.DEVNULL
        process = self.start(*arguments, stdin=stdin, **more)
        try:
            out, err = process.communicate(text, timeout=DEADLINE_SECONDS * 2)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"volery {arguments} hangs: {out}\n{err}") from None
        assert "Traceback" not in err, err
        return Result(process.returncode, out, err)

    def ok(self, *arguments: str, **more: Any) -> Result:
        """Run the command; it must succeed."""
        result = self.volery(*arguments, **more)
        assert result.code == 0, f"{arguments}: {result.code}\n{result.out}\n{result.err}"
        return result

    def status(self) -> Any:
        return self.ok("--output", "json", "status").json

    def get(self, path: str, timeout: float = 10.0) -> tuple[int, str]:
        """One request through the gateway."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=timeout
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def version(self, service: str) -> str:
        status, body = self.get(f"/{service}/")
        assert status == 200, body
        return str(json.loads(body)["version"])

    def close(self) -> None:
        """Stop everything, and fail if something of ours is left."""
        if self.home.exists():
            self.volery("down")
        left = leftovers(self.home)
        for process in left:
            process.kill()
        assert not left, [process.info for process in left]


def leftovers(home: Path) -> list[psutil.Process]:
    """Processes whose command line, folder or environment names this home."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            words = " ".join(process.cmdline())
            place = process.cwd()
            variables = process.environ().get("VOLERY_APP", "")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        inside = str(home) in words or place.startswith(str(home))
        if inside and process.pid != os.getpid():
            process.info["home"] = variables
            found.append(process)
    return found


def free_port() -> int:
    """A port to listen on, out of the range from which outgoing connections get theirs, and none
    that a test beside this one may choose."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    while True:
        port = secrets.choice(range(12000 + worker, 20000, 4))
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def processes_of(project: Project, script: str) -> list[psutil.Process]:
    """All that run this script below the project's home, whatever is known of them."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if (process.info["cmdline"] or [])[1:] == [script]
        and Path(process.info["cwd"] or "/").is_relative_to(project.home)
    ]


def sizes(folder: Path, name: str | None = None) -> int:
    """Bytes of all files below a folder, or of those with a name, while others come and go."""
    total = 0
    for found, _, names in os.walk(folder):
        for one in names:
            with suppress(FileNotFoundError):
                total += Path(found, one).stat().st_size if name in (None, one) else 0
    return total


def until(condition: Callable[[], Any], what: str = "", seconds: float = DEADLINE_SECONDS) -> Any:
    """Wait for a condition; its first true value."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"never: {what or condition}"
        time.sleep(0.05)
