"""One kind of service, run by Volery for real, and its users.

The service under test is `target`; users come through the gateway, to a tcp service through the
edge of a caller that does nothing. Of the kinds with a need the need is what is broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.application import Application, application
from benchmarks.faults.cases import EDGE_KINDS, INSTANCES, SOURCES, KindName, block
from benchmarks.processes import until
from volery.control.specs import env_name
from volery.prober import Kind, Stream
from volery.supervise.identity import environment_of

TARGET, FRONT, CALLER = "target", "front", "caller"
REST_SECONDS = 120.0
TIMEOUT_SECONDS = 10.0
"""After so long a user gives up."""
POSTS = 0.25
"""For each GET so many POSTs."""
Json = dict[str, Any]


class Bed:
    """One environment with one kind of service."""

    def __init__(self, app: Application, kind: KindName) -> None:
        self.app = app
        self.kind = kind
        self.hold = app.folder / "hold"

    def up(self) -> None:
        """Start it, and wait until all is well."""
        hold = {"HOLD": str(self.hold)} if SOURCES[self.kind] == "unruly" else {}
        route = None if self.kind in (*EDGE_KINDS, "tcp") else "/"
        self.app.add(TARGET, SOURCES[self.kind], route, env=hold, **block(self.kind))
        if self.kind in EDGE_KINDS:
            policy = {"when_unavailable": self.kind, "timeout": "8s"}
            needs = {"target": policy}
            self.app.add(FRONT, "unruly", "/", needs=needs, health={"ready": "/ready"})
        if self.kind == "tcp":
            self.app.add(CALLER, "unruly", "/", needs=["target"], health={"ready": "/ready"})
        self.app.volery("up")

    def instances(self) -> list[Json]:
        """Those of the service under test."""
        return self.app.instances(TARGET)

    def well(self) -> bool:
        """Whether all instances are there, ready, and nobody else."""
        found = self.instances()
        return len(found) == INSTANCES and all(item["state"] == "ready" for item in found)

    def rest(self) -> None:
        """Wait until all is well, and what was done about the last fault has its verdict: the same
        trouble again before that would be that nothing helped, and the next attempt would wait."""
        until(self._calm, "the service is well again", REST_SECONDS)

    def _calm(self) -> bool:
        heal = self.app.status()["services"][TARGET]["heal"]
        return self.well() and (heal is None or heal["phase"] == "ended")

    def streams(self, load: float) -> tuple[Stream, ...]:
        """Its users: `load` requests a second in all."""
        url = f"http://127.0.0.1:{self.app.port}/"
        stream = partial(Stream, timeout=TIMEOUT_SECONDS, connections=8)
        if self.kind == "tcp":
            return (stream(Kind.LINE, self._edge(), load, name="lines"),)
        if self.kind == "grpc":
            return (stream(Kind.GRPC, f"{url}echo.Echo/Say", load, name="calls"),)
        return self.http_streams(self.app.port, load)[: 1 if self.kind in EDGE_KINDS else 2]

    @staticmethod
    def http_streams(port: int, load: float) -> tuple[Stream, ...]:
        """What can be repeated, and what cannot."""
        stream = partial(Stream, timeout=TIMEOUT_SECONDS, connections=8)
        url, gets = f"http://127.0.0.1:{port}/", load / (1 + POSTS)
        return (
            stream(Kind.HTTP1, url, gets, name="GET"),
            stream(Kind.HTTP1, url, load - gets, name="POST", payload=b"{n}"),
        )

    def _edge(self) -> str:
        """Where the caller reaches the service under test."""
        caller = self.app.instances(CALLER)[0]
        return str((environment_of(caller["pid"]) or {})[env_name(TARGET)])

    @property
    def traffic(self) -> Path:
        """The folder of the data plane."""
        return self.app.home.path / "traffic"


@contextmanager
def bed(kind: KindName) -> Iterator[Bed]:
    """A kind of service for as long as the block lasts."""
    with application() as app:
        made = Bed(app, kind)
        made.up()
        yield made
