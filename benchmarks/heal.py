"""`kill -9` of an instance: how soon nobody is sent to it, and how soon a replacement serves.

All four keep two processes of the same service, run beside each other, and are hit in turns. The
processes of supervisor, circus and pm2 stand on fixed ports behind an Envoy with the configuration
that Volery generates; as nobody tells that Envoy of a death, the dead address stays in rotation
until its replacement listens. Users are played by the prober; Envoy tries another instance when a
connection is refused, so what they lose is mostly what the dead one was answering.

*Out of rotation* is when Envoy lists the instance no more, or when its replacement answers there;
*replaced* is the first answer of a new process through the gateway.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import peers
from benchmarks.application import Application, application, write_service
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


Watch = Callable[[int, threading.Event], float | None]


@dataclass
class Healer:
    """One that heals, and what was seen of it.

    `watch(pid, watching)` sets `watching` once it looks, and returns when (monotonic) Envoy no
    longer listed the instance with this process; without it nobody tells Envoy of a death.
    """

    name: str
    port: int
    users: Running
    watch: Watch | None = None
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
    seen: Future[float | None] | None = None
    if healer.watch is not None:
        watching = threading.Event()
        seen = watchers.submit(healer.watch, victim, watching)
        watching.wait(HEAL_SECONDS)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    replaced = _first_answer_of_another(healer.port, before) - began
    left = seen.result() if seen else None
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


def _first_answer_of_another(port: int, before: set[int]) -> float:
    """When (monotonic) a process that was not there before answers."""

    def another() -> float:
        pid = _ask(port)
        return time.monotonic() if pid is not None and pid not in before else 0.0

    return until(another, f"a replacement on port {port}", HEAL_SECONDS, pause=0.001)


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
    return Healer("volery", app.port, users, partial(_left_rotation, app))


def _left_rotation(app: Application, pid: int, watching: threading.Event) -> float | None:
    """When Envoy lists the instance no more; None if that was not seen in time."""
    instance = next(item["id"] for item in app.instances("web") if item["pid"] == pid)
    return asyncio.run(_not_listed(app.home.path / "traffic", instance, watching))


async def _not_listed(traffic: Path, instance: str, watching: threading.Event) -> float | None:
    admin = known(traffic)[-1].admin
    deadline = time.monotonic() + HEAL_SECONDS
    try:
        while time.monotonic() < deadline:
            listed = {name for _, name in await admin.hosts()}
            if instance not in listed:
                return time.monotonic()
            watching.set()
    finally:
        await admin.close()
    return None


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
    return Healer(name, port, stack.enter_context(_users(port)))


@contextmanager
def _users(port: int) -> Iterator[Running]:
    """Short requests on kept connections, all the time."""
    stream = Stream(Kind.HTTP1, f"http://127.0.0.1:{port}/", USERS_PER_SECOND, connections=4)
    with probing(ProbePlan((stream,), LONGEST_SECONDS)) as running:
        yield running
