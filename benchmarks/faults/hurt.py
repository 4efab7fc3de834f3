"""Breaks what a fault says: by signal, or by telling instances what to do wrong.

Only processes of the bed's own application are touched. What does not end by itself ends with the
`with` block.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

from benchmarks.faults.bed import Bed, Json
from benchmarks.faults.cases import Fault

GONE_SECONDS = 5.0
"""So long a need stays away."""


@contextmanager
def hurt(bed: Bed, fault: Fault, victims: Sequence[Json]) -> Iterator[None]:
    """Break the victims, and let go of what is still held at the end."""
    back = threading.Timer(GONE_SECONDS, bed.hold.unlink, kwargs={"missing_ok": True})
    if fault.of_need:
        bed.hold.touch()
        back.start()
    try:
        for victim in victims:
            _hurt(bed, fault, victim)
        yield
    finally:
        back.cancel()
        bed.hold.unlink(missing_ok=True)


def _hurt(bed: Bed, fault: Fault, victim: Json) -> None:
    if fault.told:
        tell(victim["address"], fault)
        return
    if fault.process == "control plane":
        os.kill(bed.app.status()["processes"]["control_plane"], signal.SIGKILL)
        os.kill(victim["pid"], signal.SIGKILL)
        return
    os.kill(_process(bed, fault, victim), signal.Signals[fault.signal])


def _process(bed: Bed, fault: Fault, victim: Json) -> int:
    """Which process is hit."""
    if fault.process == "envoy":
        return int(bed.app.status()["processes"]["envoy"][0])
    return _parent(victim["pid"]) if fault.process == "shim" else int(victim["pid"])


def _parent(pid: int) -> int:
    """The shim of an instance."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
        return int(stat.read().rpartition(")")[2].split()[1])


def tell(address: str, fault: Fault) -> None:
    """Tell the instance there what to do wrong."""
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", f"/unruly?{urlencode(fault.told)}")
    connection.getresponse().read()
    connection.close()
