"""A real Prometheus from Debian's package, unpacked into a cache folder: nothing is installed.

It listens on loopback only, below the path `/prom`, asks for a password, keeps its data in the
folder it is given and scrapes a server of the test. `apt-get download` and `dpkg -x` need no rights
and start no service.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PASSWORD = "open-sesame-77"
HASH = "$2b$04$F4cljcxrlVKqCOL83sbWQeDXSNoos3GKKwsNDkdybuljG4YKpUhay"
SERIES = 10_000
PATIENCE_SECONDS = 60.0
CONFIG = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: birds
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def binary() -> Path:
    """Prometheus of this machine, or unpacked from the package; skips if it cannot be had."""
    found = shutil.which("prometheus")
    if found:
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "volery-tests"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = cache / "prometheus" / "usr" / "bin" / "prometheus"
        if not there.exists():
            unpack("prometheus", cache)
        return there


def unpack(package: str, cache: Path) -> None:
    """Download a package and unpack it below the cache, in one step for whoever looks."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        pytest.skip(f"{package} is not installed, and there is no apt-get to get it with")
    new = cache / f"{package}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    trouble = apt_get(new, "download", package)
    if trouble and os.geteuid() == 0:  # the lists may be missing or old
        trouble = apt_get(new, "update") or apt_get(new, "download", package)
    if trouble:
        pytest.skip(f"NO REAL PROMETHEUS TESTED: apt-get download {package}: {trouble}")
    (archive,) = new.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(archive), str(new)], check=True, timeout=300)
    archive.unlink()
    new.rename(cache / package)


def apt_get(folder: Path, *words: str) -> str:
    """Why it failed, "" if it did not."""
    argv = ["timeout", "300", "apt-get", "--quiet", *words]
    done = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""


class Birds(BaseHTTPRequestHandler):
    """What is measured: counters that grow with every scrape."""

    scrapes = 0

    def do_GET(self) -> None:
        type(self).scrapes += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page(type(self).scrapes).encode())

    def log_message(self, *_: object) -> None:
        pass


def page(scrapes: int) -> str:
    lines = [
        f'requests_total{{service="web",release="web@1",track="stable"}} {scrapes * 10}',
        f'requests_total{{service="web",release="web@2",track="canary"}} {scrapes * 10}',
        f'errors_total{{service="web",release="web@1",track="stable"}} {scrapes * 0}',
        f'errors_total{{service="web",release="web@2",track="canary"}} {scrapes * 2}',
        "ghosts_total 0",
    ]
    crowd = (f'crowd{{bird="{n}"}} 1' for n in range(SERIES))
    now = time.time_ns() // 1_000_000  # what has a time of its own outlives a scrape that failed
    return "".join(f"{line} {now}\n" for line in (*lines, *crowd))


@dataclass
class Prometheus:
    """One that runs."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://reader:{PASSWORD}@127.0.0.1:{self.port}/prom/"

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def scraped(self) -> bool:
        """Whether it answers, and has seen the birds twice: enough for a rate."""
        question = f"http://127.0.0.1:{self.port}/prom/api/v1/query?query=sum_over_time(up[1m])>3"
        word = b64encode(f"reader:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(question, headers={"authorization": f"Basic {word}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return b'"value"' in answer.read()
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """Run one, scraping birds."""
    program = binary()
    with ThreadingHTTPServer(("127.0.0.1", 0), Birds) as birds:
        serving = threading.Thread(target=birds.serve_forever)
        serving.start()
        try:
            (folder / "prometheus.yml").write_text(CONFIG.format(port=birds.server_port))
            (folder / "web.yml").write_text(f"basic_auth_users: {{reader: {HASH}}}\n")
            with started(program, folder) as running:
                yield running
        finally:
            birds.shutdown()
            serving.join()


@contextmanager
def started(program: Path, folder: Path) -> Iterator[Prometheus]:
    port = free_port()
    argv = [
        str(program),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--web.config.file={folder / 'web.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.route-prefix=/prom",
        "--log.level=warn",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    running = Prometheus(process, port)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not running.scraped():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield running
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
