"""`kill -9` of an instance: how soon nobody is sent to it, and how soon a replacement serves.

All four keep two processes of the same service, run beside each other, and are hit in turns. The
processes of supervisor, circus and pm2 stand on fixed ports behind an Envoy with the configuration
that Volery generates; nobody tells that Envoy of a death, so it has to find out by requests that
cannot be sent. Users are played by the prober; Envoy tries another instance when a connection is
refused, so what they lose is mostly what the dead one was answering.

*Out of rotation* is when Envoy lists the instance no more or gives it a rest for its failures, or
when its replacement answers. *Replaced* is the first answer of a new process: Volery's through the
gateway, a peer's on its own port, since Envoy goes on resting an address for seconds after that,
and is not the peer's.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import peers
from benchmarks.application import application, write_service
from benchmarks.data_plane import gateway, service, serving
from benchmarks.figures import met, milliseconds, ratio
from benchmarks.options import Options, say
from benchmarks.peers import Member, Peer
from benchmarks.processes import free_port, until
from benchmarks.results import Line, Table
from volery.model.ports import TrafficConfig
from volery.prober import Kind, ProbePlan, Running, Stream, probing
from volery.traffic.proxy import known

INSTANCES = 2
USERS_PER_SECOND = 50.0
LONGEST_SECONDS = 3600.0
HEAL_SECONDS = 60.0
# After ten seconds of good health Volery takes a crash for the first one again.
REST_SECONDS = 10.5
COLUMNS = ("kept by", "out of rotation", "ratio", "replaced", "ratio", "slowest", "lost a kill")


@dataclass
class Healer:
    """One that heals, and what was seen of it.

    `traffic` is the home of its Envoy, `host` what that calls the instance with a process, and
    `answers` the ports where a replacement may answer first.
    """

    name: str
    port: int
    users: Running
    traffic: Path
    host: Callable[[int], str]
    answers: Sequence[int]
    out: list[float] = field(default_factory=list)
    replaced: list[float] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)


def measure(options: Options) -> Table:
    """Medians of many rounds, and ratios to Volery's."""
    rounds = options.size(15, 2)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="volery-bench-")))
        healers = [_volery(stack), *_peers(stack, folder, options.cache)]
        watchers = stack.enter_context(ThreadPoolExecutor(1))
        for number in range(1, rounds + 1):
            for healer in healers:
                _hit(healer, watchers)
            say(f"heal: round {number} of {rounds}")
        rows = [_row(healer, healers[0]) for healer in healers]
    return Table(COLUMNS, rows, (_verdict(healers), f"Medians of {rounds} rounds in turns."))


def _hit(healer: Healer, watchers: ThreadPoolExecutor) -> None:
    """Kill one process and see what follows."""
    time.sleep(max(0.0, healer.last + REST_SECONDS - time.monotonic()))
    before = _serving(healer.port)
    victim = min(before)
    watch = _Watch(healer.traffic, healer.host(victim))
    seen = watchers.submit(watch.left_rotation)
    watch.looks.wait(HEAL_SECONDS)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    replaced = _first_answer_of_another(healer.answers, before) - began
    watch.over.set()
    left = seen.result()
    healer.replaced.append(replaced)
    healer.out.append(replaced if left is None else min(replaced, left - began))
    _serving(healer.port, without=victim)
    healer.last = time.monotonic()


def _serving(port: int, without: int = 0) -> set[int]:
    """The processes that answer through the gateway, once all are there."""

    def all_of_them() -> set[int]:
        found = {_ask(port) for _ in range(8 * INSTANCES)} - {None, without}
        return {pid for pid in found if pid} if len(found) == INSTANCES else set()

    return until(all_of_them, f"{INSTANCES} processes answer on port {port}", HEAL_SECONDS)


def _first_answer_of_another(ports: Sequence[int], before: set[int]) -> float:
    """When (monotonic) a process that was not there before answers on one of these ports."""

    def another() -> float:
        pids = map(_ask, ports)
        return time.monotonic() if any(pid and pid not in before for pid in pids) else 0.0

    return until(another, f"a replacement on {ports}", HEAL_SECONDS, pause=0.001)


class _Watch:
    """Looks at what Envoy says of one host, in a thread of its own."""

    def __init__(self, traffic: Path, host: str) -> None:
        self.looks, self.over = threading.Event(), threading.Event()
        self._traffic, self._host = traffic, host

    def left_rotation(self) -> float | None:
        """When (monotonic) Envoy sent it nothing more; None if it is over before that."""
        return asyncio.run(self._left())

    async def _left(self) -> float | None:
        admin = known(self._traffic)[-1].admin
        try:
            while not self.over.is_set():
                if not _in_rotation(await admin.ask("/clusters?format=json"), self._host):
                    return time.monotonic()
                self.looks.set()
        finally:
            await admin.close()
        return None


def _in_rotation(clusters: str, name: str) -> bool:
    """Whether a host is listed and not at rest for its failures."""
    return any(
        host.get("hostname") == name and not host["health_status"].get("failed_outlier_check")
        for cluster in json.loads(clusters)["cluster_statuses"]
        for host in cluster.get("host_statuses", ())
    )


def _ask(port: int) -> int | None:
    """Which process answers; None if the answer is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == http.client.OK:
            return int(body.split()[1])
    connection.close()
    return None


def _row(healer: Healer, ours: Healer) -> Line:
    out, replaced = median(healer.out), median(healer.replaced)
    return (
        healer.name,
        milliseconds(out),
        ratio(out / median(ours.out)),
        milliseconds(replaced),
        ratio(replaced / median(ours.replaced)),
        milliseconds(max(healer.replaced)),
        f"{healer.users.failed / len(healer.replaced):.1f}",
    )


def _verdict(healers: Sequence[Healer]) -> str:
    ours, *others = healers
    sooner = [
        f"{peer.name}: out of rotation {met(median(ours.out) < median(peer.out))}, replaced "
        f"{met(median(ours.replaced) < median(peer.replaced))}"
        for peer in others
    ]
    return f"Goal: faster than each. Met: {'; '.join(sooner)}."


# --- who heals ------------------------------------------------------------------------------------


def _volery(stack: ExitStack) -> Healer:
    app = stack.enter_context(application())
    app.add("web", "web", "/", scale=INSTANCES, health={"ready": "/", "live": "/"})
    app.volery("up")
    users = stack.enter_context(_users(app.port))

    def host(pid: int) -> str:
        return next(str(item["id"]) for item in app.instances("web") if item["pid"] == pid)

    return Healer("volery", app.port, users, app.home.path / "traffic", host, (app.port,))


def _peers(stack: ExitStack, folder: Path, cache: Path) -> Iterator[Healer]:
    for name, peer in peers.keepers(cache).items():
        yield _peer(stack, folder / name, name, peer)


def _peer(stack: ExitStack, folder: Path, name: str, peer: Peer) -> Healer:
    write_service(folder / "web", "web", 1)
    members = [Member("web", folder / "web", free_port()) for _ in range(INSTANCES)]
    stack.enter_context(peer(folder / "peer", members))
    port = free_port()
    web = service("http", {member.name: member.port for member in members})
    config = TrafficConfig(gateway(port, {"/": "web"}), {"web": web})
    stack.enter_context(serving(folder / "traffic", config))
    _serving(port)

    def host(pid: int) -> str:
        return next(member.name for member in members if _ask(member.port) == pid)

    users = stack.enter_context(_users(port))
    ports = tuple(member.port for member in members)
    return Healer(name, port, users, folder / "traffic", host, ports)


@contextmanager
def _users(port: int) -> Iterator[Running]:
    """Short requests on kept connections, all the time."""
    stream = Stream(Kind.HTTP1, f"http://127.0.0.1:{port}/", USERS_PER_SECOND, connections=4)
    with probing(ProbePlan((stream,), LONGEST_SECONDS)) as running:
        yield running
