"""The same three faults under Volery and under supervisor, circus and pm2, side by side.

Each keeps three processes of the same service. Those of the peers stand on fixed ports behind an
Envoy with the configuration that Volery generates, retries and ejection included, so what differs
is who watches and what they do. Kubernetes is quoted, not measured: its documented defaults.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.application import write_service
from benchmarks.data_plane import gateway, service, serving
from benchmarks.faults.bed import Bed, bed
from benchmarks.faults.cases import FAULTS, INSTANCES, Cell, Fault
from benchmarks.faults.cell import LONGEST_SECONDS, STEADY_SECONDS, Seen, run, watching
from benchmarks.faults.hurt import tell
from benchmarks.faults.outcome import failed, when
from benchmarks.options import Options, say
from benchmarks.peers import Member, Peer, keepers
from benchmarks.processes import free_port, listens, until
from benchmarks.results import Line, Table
from volery.model.ports import TrafficConfig
from volery.prober import ProbePlan, probing

NAMES = ("killed", "hangs", "fails all it gets")
LOAD = 60.0
COLUMNS = ("kept by", "fault", "failed", "out", "well")
PATIENCE_SECONDS = 20.0
"""What a peer has not noticed by then it will not notice."""
KUBERNETES = (
    ("kubernetes, documented defaults", "killed", "not measured", "1-3 s", "1-13 s + start-up"),
    (
        "kubernetes, documented defaults",
        "hangs",
        "not measured",
        "20-31 s",
        "about 60 s + start-up",
    ),
    ("kubernetes, documented defaults", "fails all it gets", "not measured", "never", "never"),
)
NOTES = (
    "Kubernetes: probe period 10 s, 3 failures, timeout 1 s, relist 1 s, endpoint propagation; a "
    "process that answers its probes stays in rotation. Peers: who restarts a process only when it "
    f"exits notices nothing else; they were watched for {PATIENCE_SECONDS:g} s.",
)


@dataclass(frozen=True)
class Kept:
    """Three processes under a peer's care, behind an Envoy."""

    port: int
    traffic: Path
    members: Sequence[Member]


def measure(options: Options) -> Table:
    """A row for each keeper and fault."""
    faults = [fault for fault in FAULTS if fault.name in NAMES]
    rows: list[Line] = []
    with bed("http") as ours:
        rows += [_row("volery", fault, _ours(ours, fault)) for fault in faults]
    with tempfile.TemporaryDirectory(prefix="volery-bench-") as folder:
        for name, peer in keepers(options.cache).items():
            for fault in faults:
                with _kept(Path(folder) / f"{name}-{fault.signal or 'told'}", peer) as kept:
                    rows.append(_row(name, fault, _theirs(kept, fault)))
    return Table(COLUMNS, [*rows, *KUBERNETES], NOTES)


def _row(name: str, fault: Fault, seen: Seen) -> Line:
    say(f"{name}: {fault.name}")
    assert seen.report is not None
    return name, fault.name, failed(seen.report), when([seen.out]), when([seen.well])


def _ours(ours: Bed, fault: Fault) -> Seen:
    return run(ours, Cell("http", fault, LOAD))


@contextmanager
def _kept(folder: Path, peer: Peer) -> Iterator[Kept]:
    write_service(folder / "target", "unruly", 1)
    members = [Member("target", folder / "target", free_port()) for _ in range(INSTANCES)]
    with ExitStack() as stack:
        stack.enter_context(peer(folder / "peer", members))
        port = free_port()
        target = service("http", {member.name: member.port for member in members})
        config = TrafficConfig(gateway(port, {"/": "target"}), {"target": target})
        stack.enter_context(serving(folder / "traffic", config))
        for member in members:
            until(partial(listens, member.port), f"{member.name} listens")
        yield Kept(port, folder / "traffic", members)


def _theirs(kept: Kept, fault: Fault) -> Seen:
    victim = kept.members[0]
    broken = _listener(victim.port)
    streams = Bed.http_streams(kept.port, LOAD)
    with probing(ProbePlan(streams, LONGEST_SECONDS)) as users:
        users.wait_for(20, timeout=60)
        with watching(kept.traffic, {victim.name}) as watch:
            began = time.monotonic()
            if fault.told:
                tell(f"127.0.0.1:{victim.port}", fault)
            else:
                os.kill(broken, signal.Signals[fault.signal])
            well = _replaced(lambda: _listener(victim.port), broken, began)
        if well is None and fault.signal == "SIGSTOP":
            os.kill(broken, signal.SIGKILL)
    out = None if well is None else min(well, max(0.0, watch.grew - began))
    return Seen(out=out, well=well, report=users.report)


def _replaced(listener: Callable[[], int], broken: int, began: float) -> float | None:
    """When another process listened in its place for a second."""
    since: float | None = None
    while time.monotonic() - began < PATIENCE_SECONDS:
        if listener() in (0, broken):
            since = None
        elif since is None:
            since = time.monotonic()
        elif time.monotonic() - since > STEADY_SECONDS:
            return since - began
        time.sleep(0.02)
    return None


def _listener(port: int) -> int:
    """The process that listens on a port; 0 if none does."""
    for item in psutil.net_connections("tcp4"):
        here = item.laddr and item.laddr.port == port and item.status == psutil.CONN_LISTEN
        if here and item.pid:
            return int(item.pid)
    return 0
