"""What is broken, of which kind of service, and what its users must expect. Data only.

A *cell* is one fault of one kind of service under one load. What a cell says of lost requests is
explained by `because`: which requests nobody could have saved, and what saves the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

KindName = Literal["http", "grpc", "tcp", "fail_fast", "keep_trying"]
HTTP_KINDS: tuple[KindName, ...] = ("http",)
PLAIN_KINDS: tuple[KindName, ...] = ("http", "grpc", "tcp")
EDGE_KINDS: tuple[KindName, ...] = ("fail_fast", "keep_trying")
INSTANCES = 3
LOADS = (20.0, 150.0)
"""Requests a second."""
SAVED = "what can be repeated is asked of another instance"
IN_FLIGHT = "a POST, call or message that the dead one had begun may have been carried out"


@dataclass(frozen=True)
class Fault:
    """One fault. `how` is a signal or what an instance is told; `victims` are of which service."""

    name: str
    kinds: tuple[KindName, ...]
    because: str
    signal: str = ""
    told: Mapping[str, float] = field(default_factory=dict, hash=False)
    all_of_them: bool = False
    of_need: bool = False
    process: Literal["instance", "shim", "control plane", "envoy"] = "instance"
    returns: bool = True
    """Whether the service is well again when Volery has done its part."""


FAULTS = (
    Fault("killed", PLAIN_KINDS, f"{SAVED}; {IN_FLIGHT}", signal="SIGKILL"),
    Fault("hangs", PLAIN_KINDS, f"until it is found to hang; then {SAVED}; a tcp service is only"
          " connected to, so there it is not found", "SIGSTOP"),
    Fault("all killed", PLAIN_KINDS, "nobody is there until one has started", "SIGKILL",
          all_of_them=True),
    Fault("its shim killed", PLAIN_KINDS, "it serves on, and is replaced; a tcp connection that is "
          "open when its drain is over is cut", "SIGKILL",
          process="shim"),
    Fault("accepts, never answers", HTTP_KINDS, f"as hangs; {IN_FLIGHT}", told={"mute": 1}),
    Fault("fails all it gets", HTTP_KINDS, f"{SAVED} until it is out; a POST is not", "",
          {"errors": 1}),
    Fault("fails 1 in 100", HTTP_KINDS, "too few to notice at once: the judge needs evidence", "",
          {"errors": 0.01}),
    Fault("slow by 300 ms", HTTP_KINDS, "no failure; a third of the users wait", "",
          {"slow": 0.3}),
    Fault("leaks to its limit", HTTP_KINDS, "replaced before the kernel kills it", "",
          {"leak": 2}),
    Fault("control plane killed, then an instance", HTTP_KINDS,
          f"its shim restarts it; {SAVED}", "SIGKILL", process="control plane"),
    Fault("Envoy killed", HTTP_KINDS, "its connections break, and nobody listens until it is back",
          "SIGKILL", process="envoy"),
    Fault("the need is gone", EDGE_KINDS,
          "fail_fast: answered at once with an error, and some seconds longer until its breaker has"
          " closed; keep_trying: waits until the need is back",
          "SIGKILL", all_of_them=True, of_need=True),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One fault of one kind of service under one load."""

    kind: KindName
    fault: Fault
    load: float


def cells(quick: bool) -> Iterator[Cell]:
    """Every cell, those of one kind together; `quick` gives two faults of http."""
    kinds: tuple[KindName, ...] = (*PLAIN_KINDS, *EDGE_KINDS)
    for kind in kinds[:1] if quick else kinds:
        for load in LOADS[1:] if quick else LOADS:
            for fault in FAULTS[:2] if quick else FAULTS:
                if kind in fault.kinds:
                    yield Cell(kind, fault, load)


SOURCES: Mapping[KindName, str] = {
    "http": "unruly",
    "grpc": "rates",
    "tcp": "lines",
    "fail_fast": "unruly",
    "keep_trying": "unruly",
}
"""Which of `services/` each kind is."""


def block(kind: KindName) -> Mapping[str, Any]:
    """A kind's part of the manifest, besides where its source is."""
    paths = {"ready": "/ready", "live": "/ready"} if SOURCES[kind] == "unruly" else {}
    protocol = kind if kind in ("grpc", "tcp") else "http"
    return {
        "protocol": protocol,
        "scale": INSTANCES,
        "health": {**paths, "startup": "20s"},
        "deploy": {"warm_up": "0s"},  # what is slow is slow from the first second on
        "resources": {"memory": "96Mi"} if kind == "http" else {},
        "stop": {"drain": "5s", "grace": "2s"},
    }
