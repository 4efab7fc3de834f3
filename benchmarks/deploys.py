"""How many requests are lost while services change: with Volery, and with restarts in place.

Users are played by Volery's own prober: HTTP/1.1 on kept and on new connections, HTTP/2, slow
uploads and downloads, WebSocket and gRPC, at a steady rate whatever the answers do. Peers keep the
same services, each with two processes on fixed ports, behind the same Envoy with the configuration
that Volery generates, retries included; a change is what an operator does there: new source in its
place, then a restart.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.application import Application, application, write_service
from benchmarks.data_plane import Protocol, gateway, service, serving
from benchmarks.figures import met
from benchmarks.options import Options, say
from benchmarks.peers import Kept, Member
from benchmarks.processes import free_port, listens, until
from benchmarks.results import Line, Table
from volery.model.ports import TrafficConfig
from volery.prober import Kind, ProbePlan, ProbeReport, Running, Stream, probing

LONGEST_SECONDS = 3600.0
INSTANCES = 2
SERVICES: dict[str, tuple[Protocol, str]] = {
    "web": ("http", "/"),
    "rates": ("grpc", "/birds.Rates/"),
    "echo": ("http", "/echo"),
}
COLUMNS = ("how", "changes", "requests", "lost", "lost a change", "seconds", "causes")


@dataclass(frozen=True)
class Amount:
    """How much is changed."""

    deploys: int
    rollbacks: int
    scales: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.deploys + self.rollbacks + self.scales

    def services(self, count: int) -> Iterable[str]:
        """Whose turn it is."""
        return itertools.islice(itertools.cycle(SERVICES), count)


FULL, QUICK = Amount(20, 5, 5), Amount(3, 1, 1)
Change = Callable[[], object]


def measure(options: Options) -> Table:
    """Volery's deploys, rollbacks, scale changes and a new gateway; peers' restarts."""
    amount = options.size(FULL, QUICK)
    python = peers.python_peers(options.cache)
    ours = list(_with_volery(amount))
    rows = [
        *ours,
        _with_supervisor("supervisor, a service's processes together", amount, python, True),
        _with_supervisor("supervisor, one process after the other", amount, python, False),
        _with_honcho("honcho, ended and started", amount, python),
    ]
    lost = sum(int(row[3]) for row in ours[:-1])
    notes = (
        f"Volery: {amount.deploys} deploys, {amount.rollbacks} rollbacks, {amount.scales} changes"
        f" of scale, then a new gateway. Goal: no request lost. Met: {met(lost == 0)}.",
        "The replaced Envoy ends 16 s after its successor began. Envoy cannot close a WebSocket in"
        " the words of WebSocket: one that is still open then breaks, and is counted by itself.",
        "Peers: as many restarts in place as Volery has deploys and rollbacks.",
    )
    return Table(COLUMNS, rows, notes)


def _with_volery(amount: Amount) -> Iterator[Line]:
    with application() as app:
        for name, (protocol, path) in SERVICES.items():
            app.add(name, name, path, protocol=protocol, scale=INSTANCES, **_policy())
        app.volery("up")
        streams = _streams(app.port)
        yield _counted(f"volery, {amount.total} changes", _changes(app, amount), streams)
        kept = [stream for stream in streams if stream.kind is not Kind.WEBSOCKET]
        yield _counted("volery, a new gateway", [app.replace_gateway], kept)
        opened = [stream for stream in streams if stream.kind is Kind.WEBSOCKET]
        how = "volery, a new gateway, WebSockets that stay open"
        yield _counted(how, [app.replace_gateway], opened)


def _counted(how: str, changes: Iterable[Change], streams: Sequence[Stream]) -> Line:
    """What users lose while one change follows the other."""
    number, began = 0, time.monotonic()
    with _users(streams) as users:
        for number, change in enumerate(changes, 1):
            change()
            say(f"{how}: change {number}, lost {users.failed}")
    return _row(how, number, users.report, began)


def _policy() -> dict[str, object]:
    health = {"ready": {"tcp": True}, "every": "200ms", "startup": "20s"}
    return {"health": health, "stop": {"drain": "4s", "grace": "4s"}}


def _changes(app: Application, amount: Amount) -> Iterator[Change]:
    strategies = itertools.cycle(["rolling", "blue-green"])
    for version, name in enumerate(amount.services(amount.deploys), 2):
        write_service(app.folder / name, name, version)
        yield partial(app.volery, "deploy", name, "--strategy", next(strategies))
    for name in amount.services(amount.rollbacks):
        yield partial(app.volery, "rollback", name)
    for size in itertools.islice(itertools.cycle([4, 1, 3, 2]), amount.scales):
        yield partial(app.volery, "scale", "web", str(size))


def _with_supervisor(how: str, amount: Amount, python: Path, together: bool) -> Line:
    with _folder() as folder:
        members = _members(folder)
        with peers.supervisor(python, folder / "peer", members) as kept:
            return _restarts(how, amount, folder, members, kept, together)


def _with_honcho(how: str, amount: Amount, python: Path) -> Line:
    with _folder() as folder:
        members = _members(folder)
        with peers.honcho(python, folder / "peer", members) as kept:
            return _restarts(how, amount, folder, members, kept, together=True)


def _restarts(
    how: str, amount: Amount, folder: Path, members: list[Member], kept: Kept, together: bool
) -> Line:
    """As many new versions as Volery brings in, each by a restart."""

    def change(version: int, name: str) -> None:
        write_service(folder / name, name, version)
        mine = [member for member in members if member.service == name]
        for chosen in [mine] if together else [[member] for member in mine]:
            kept.restart(chosen)
        _wait_for(members)

    _wait_for(members)
    port = free_port()
    names = enumerate(amount.services(amount.deploys + amount.rollbacks), 2)
    with serving(folder / "traffic", _configuration(port, members)):
        changes = (partial(change, version, name) for version, name in names)
        return _counted(how, changes, _streams(port))


def _members(folder: Path) -> list[Member]:
    for name in SERVICES:
        write_service(folder / name, name, 1)
    return [Member(name, folder / name, free_port()) for name in SERVICES for _ in range(INSTANCES)]


def _configuration(port: int, members: Sequence[Member]) -> TrafficConfig:
    """What Volery would tell Envoy about these processes."""
    found = {
        name: service(protocol, {item.name: item.port for item in members if item.service == name})
        for name, (protocol, _) in SERVICES.items()
    }
    return TrafficConfig(gateway(port, {path: n for n, (_, path) in SERVICES.items()}), found)


def _wait_for(members: Sequence[Member]) -> None:
    for member in members:
        until(partial(listens, member.port), f"{member.name} listens")


def _streams(port: int) -> list[Stream]:
    """What users do."""
    url = f"http://127.0.0.1:{port}"
    return [
        Stream(Kind.HTTP1, f"{url}/a", 30.0, connections=4),
        Stream(Kind.HTTP1_FRESH, f"{url}/b", 30.0),
        Stream(Kind.HTTP2, f"{url}/c", 30.0),
        Stream(Kind.UPLOAD, f"{url}/upload", 4.0, span=1.0, expect=b"received 65536"),
        Stream(Kind.DOWNLOAD, f"{url}/download", 4.0, span=1.0),
        Stream(Kind.GRPC, f"{url}/birds.Rates/Get", 30.0, payload=b"one {n}", echo=True),
        Stream(Kind.GRPC_BIDI, f"{url}/birds.Rates/Stream", 2.0, payload=b"a {n}", span=1.0),
        Stream(Kind.WEBSOCKET, f"{url}/echo", 20.0),
    ]


@contextmanager
def _users(streams: Sequence[Stream]) -> Iterator[Running]:
    """Requests flow before, while and after."""
    with probing(ProbePlan(tuple(streams), LONGEST_SECONDS)) as running:
        running.wait_for(5)
        yield running
        running.wait_for(5)


def _row(how: str, changes: int, report: ProbeReport, began: float) -> Line:
    causes = ", ".join(f"{cause} {count}" for cause, count in list(report.causes.items())[:3])
    return (
        how,
        str(changes),
        str(report.sent),
        str(report.lost),
        f"{report.lost / changes:.1f}",
        f"{time.monotonic() - began:.0f}",
        causes or "-",
    )


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="volery-bench-") as name:
        yield Path(name)
