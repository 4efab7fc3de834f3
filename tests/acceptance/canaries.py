"""A service that is good or bad in the way a test says, its users, and what they lost.

A bird fails requests with status 500 and in no other way, unless it dies: so whatever else users
see as a failure, the machinery lost. A test says *told* things (`fail`, `slow`, `die_at`, ...) to a
release by writing them into its source.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.project import DEADLINE_SECONDS, Project, until
from acceptance.services import route
from volery.prober import Kind, ProbePlan, ProbeReport, Running, Stream, probing

Json = dict[str, Any]
SECONDS = 300.0
STEPS = ["20%", "50%"]
ITS_OWN = "status_500"

BIRD = '''
"""Answers as it is told to."""
import asyncio, json, os, signal
from pathlib import Path

TOLD = json.loads((Path(__file__).parent / "told.json").read_text())
VERSION, FAIL, SLOW = TOLD["version"], TOLD.get("fail", 0), TOLD.get("slow", 0)
count = 0


def said(path, headers):
    """Status and body of one answer."""
    global count
    if path == "/smoke":
        return (500, "it smokes") if TOLD.get("smokes") else (200, "no smoke")
    count += 1
    if count == TOLD.get("die_at"):
        os._exit(9)
    bad = int(count * FAIL) > int((count - 1) * FAIL)
    body = {"version": VERSION, "instance": os.environ["VOLERY_INSTANCE"], "headers": headers}
    if "env" in path:
        body["env"] = dict(os.environ)
    return 500 if bad else 200, json.dumps(body)


async def asked(path, headers):
    """What a need answers, asked with the caller's baggage."""
    address = os.environ[path.split("/")[2].upper() + "_URL"].removeprefix("http://")
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    passed = headers.get("baggage", "")
    more = f"baggage: {passed}\\r\\n" if passed else ""
    writer.write(f"GET / HTTP/1.1\\r\\nhost: x\\r\\n{more}connection: close\\r\\n\\r\\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    status = int(answer.split()[1])
    need = json.loads(answer.partition("\\r\\n\\r\\n")[2])["version"] if status == 200 else None
    return status, json.dumps({"version": VERSION, "need": need})


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            first, *lines = head.decode().strip().split("\\r\\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            await reader.readexactly(int(headers.get("content-length", 0)))
            path = first.split()[1]
            status, body = said(path, headers)
            if "/call/" in path and status == 200:
                status, body = await asked(path[path.index("/call/"):], headers)
            if SLOW and path != "/smoke":
                await asyncio.sleep(SLOW)
            data = body.encode()
            writer.write(
                f"HTTP/1.1 {status} X\\r\\ncontent-length: {len(data)}\\r\\n"
                f"x-release: {VERSION}\\r\\n\\r\\n".encode() + data
            )
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = await asyncio.start_server(serve, os.environ["HOST"], int(os.environ["PORT"]))
    print("listening", VERSION, flush=True)
    await told.wait()
    server.close()


if TOLD.get("dead"):
    raise SystemExit("no bird seed")
asyncio.run(main())
'''


def bird(project: Project, version: str = "1", name: str = "web", **told: Any) -> None:
    """Write the source of a release of a bird; what it is told is part of it."""
    folder = project.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "bird.py").write_text(BIRD)
    (folder / "told.json").write_text(json.dumps({"version": version} | told))


def service(project: Project, name: str = "web", path: str = "/", **block: Any) -> None:
    """The manifest's block of a bird and the way its users take."""
    deploy = {"strategy": "canary", "steps": STEPS} | block.pop("deploy", {})
    base: Json = {
        "source": f"./{name}",
        "run": f"{sys.executable} bird.py",
        "health": {"ready": {"tcp": True}, "every": "200ms", "startup": "15s"},
        "stop": {"drain": "2s", "grace": "3s"},
        "scale": 2,
        "deploy": deploy,
    }
    project.manifest["services"][name] = base | block
    if path:
        route(project, name, path)
    project.write()


def flock(project: Project, **block: Any) -> None:
    """One service with its first release, up."""
    bird(project)
    service(project, **block)
    project.ok("up")


@contextmanager
def users(
    project: Project, rate: float = 80.0, path: str = "/", known: int = 160
) -> Iterator[Running]:
    """Requests at a steady rate while the block runs; the block begins when `known` were answered,
    so that something is known of the old release."""
    url = f"http://127.0.0.1:{project.port}{path}"
    stream = Stream(Kind.HTTP1, url, rate, connections=4, timeout=60.0)
    plan = ProbePlan((stream,), SECONDS, arrivals="constant")
    with probing(plan) as running:
        running.wait_for(known, timeout=90)
        yield running
        running.wait_for(20, timeout=90)


def lost(report: ProbeReport) -> dict[str, int]:
    """The failures that no release made itself, by cause."""
    return {cause: n for cause, n in report.causes.items() if cause != ITS_OWN}


def deployed(project: Project, code: int, *more: str, service: str = "web") -> tuple[Json, str]:
    """The finished rollout of a deploy that must end with this exit code, and its story."""
    result = project.volery("--output", "json", "deploy", service, *more)
    assert result.code == code, f"{result.code}: {result.out}\n{result.err}"
    return result.json, result.err


def rollout(project: Project, service: str = "web") -> Json:
    """The running or newest rollout."""
    found: Json = project.ok("--output", "json", "rollout", service).json
    return found


def reached(project: Project, *phases: str, step: int = 0, service: str = "web") -> Json:
    """The rollout of a deploy, once it is in one of these phases (and at least at this step)."""

    def there() -> Json | None:
        found = rollout(project, service)
        if found["cause"] != "deploy":  # it is not there yet
            return None
        assert found["phase"] in phases or found["phase"] not in ENDED, found
        return found if found["phase"] in phases and found["step"] >= step else None

    found: Json = until(there, f"{service} is {phases}", seconds=3 * DEADLINE_SECONDS)
    return found


ENDED = ("done", "rolled_back", "failed")


def releases(project: Project, service: str = "web") -> list[tuple[str, str]]:
    """State and reason of every release, newest first."""
    found = project.ok("--output", "json", "releases", service).json["releases"]
    return [(item["state"], item["reason"]) for item in found]


def events(project: Project, kind: str = "") -> list[Json]:
    """The ledger, or one kind of it."""
    lines = project.ok("--output", "json", "events").out.splitlines()
    return [event for event in map(json.loads, lines) if event["kind"].startswith(kind)]


def version(project: Project, path: str = "/", headers: dict[str, str] | None = None) -> str:
    """Which release answers a request."""
    return str(answer(project, path, headers)["version"])


def answer(project: Project, path: str = "/", headers: dict[str, str] | None = None) -> Json:
    """What a request with these headers is answered."""
    url = f"http://127.0.0.1:{project.port}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as got:
        found: Json = json.loads(got.read())
        found["cookie"] = got.headers.get("set-cookie")
        return found


def serves_alone(project: Project, which: str, service: str = "web", path: str = "/") -> None:
    """All is healthy, one release answers everybody and nothing of another gets requests."""
    found = project.status()["services"][service]
    assert found["state"] == "healthy" and found["rollout"] is None, found
    assert {version(project, path) for _ in range(8)} == {which}


def folder_of(project: Project, name: str) -> Path:
    """A folder for what a test's commands write."""
    made = project.folder / name
    made.mkdir(exist_ok=True)
    return made
