"""The tour: up, users, a good deploy, one that fails its tests, one that never gets healthy, back.

Users are played by the prober from the first deploy to the last; the report says how many requests
they sent and how many were lost. Each act has the exit code it must have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from volery.demo.stage import Stage
from volery.model.units import format_duration
from volery.prober import Kind, ProbePlan, ProbeReport, Stream, probing

LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Act:
    """One thing the tour does: what it shows, and which exit code is right."""

    title: str
    expected: int
    play: Callable[[Stage], int]


@dataclass(frozen=True)
class Played:
    """How an act went."""

    title: str
    expected: int
    code: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """The whole tour."""

    acts: tuple[Played, ...]
    traffic: ProbeReport | None
    seconds: float

    @property
    def good(self) -> bool:
        """Every act ended as it must, users were there, and none of them lost a request."""
        right = all(act.code == act.expected for act in self.acts)
        return right and self.traffic is not None and self.traffic.ok > 0 and not self.traffic.lost

    def as_json(self) -> dict[str, Any]:
        """One document."""
        return {
            "good": self.good,
            "seconds": round(self.seconds, 3),
            "acts": [vars(act) for act in self.acts],
            "traffic": self.traffic.as_json() if self.traffic else None,
        }

    def render(self) -> str:
        """For people."""
        lines = ["", "The tour in short", "-----------------"]
        for act in self.acts:
            mark = "as it must be" if act.code == act.expected else f"WRONG, must be {act.expected}"
            took = format_duration(act.seconds)
            lines.append(f"{act.title:48} exit code {act.code}, {mark} ({took})")
        if self.traffic is not None:
            lines += ["", "What users got meanwhile", self.traffic.render()]
            lines += [
                "",
                f"requests sent {self.traffic.sent}, requests lost {self.traffic.lost}"
                f" (whole tour {format_duration(self.seconds)})",
            ]
        return "\n".join(lines)


def _deploy(service: str, variant: str | None) -> Callable[[Stage], int]:
    def play(stage: Stage) -> int:
        stage.variant(service, variant)
        if variant is None:
            stage.edit(service)
        return stage.volery("deploy", service)

    return play


def _undo(service: str) -> Callable[[Stage], int]:
    def play(stage: Stage) -> int:
        stage.variant(service, None)
        return stage.volery("rollback", service)

    return play


ACTS = (
    Act("a new catalog is deployed, one by one", 0, _deploy("catalog", None)),
    Act("a catalog whose tests fail is refused", 3, _deploy("catalog", "tests-fail")),
    Act("a catalog that crashes at its start is refused", 3, _deploy("catalog", "crash")),
    Act("a catalog that never becomes healthy is refused", 3, _deploy("catalog", "never-ready")),
    Act("the catalog goes back to its first release", 0, _undo("catalog")),
)


def _users(url: str) -> ProbePlan:
    web = url.replace("http://", "ws://")
    return ProbePlan(
        streams=(
            Stream(Kind.HTTP1, f"{url}/api/birds", rate=30),
            Stream(Kind.HTTP1_FRESH, f"{url}/api/catalog/birds", rate=20),
            Stream(Kind.HTTP2, f"{url}/api/birds", rate=20),
            Stream(Kind.WEBSOCKET, f"{web}/ws", rate=5),
        ),
        seconds=LONGEST_SECONDS,
    )


def run_tour(*, keep: bool, quiet: bool) -> Report:
    """Play the tour and clean up after it."""
    began = time.monotonic()
    stage = Stage(quiet)
    try:
        played, traffic = _play(stage)
    finally:
        if not keep:
            stage.close()
    report = Report(tuple(played), traffic, time.monotonic() - began)
    if not quiet:
        stage.say(report.render())
    if keep:
        stage.say(f"\nstill running in {stage.app}, home {stage.folder / 'home'}: {stage.url}")
    return report


def _play(stage: Stage) -> tuple[list[Played], ProbeReport | None]:
    stage.say("Volery takes birdhouse, five small services, from source to users.")
    up = Act("birdhouse is built, tested and started", 0, lambda it: it.volery("up"))
    played = [_act(stage, up)]
    if played[0].code != 0:
        return played, None
    with probing(_users(stage.url)) as users:
        users.wait_for(5)
        stage.say(f"\nFrom now on users send requests to {stage.url}, all the time.")
        played += [_act(stage, act) for act in ACTS]
    stage.volery("releases", "catalog")
    return played, users.report


def _act(stage: Stage, act: Act) -> Played:
    stage.say(f"\n=== {act.title}")
    began = time.monotonic()
    code = act.play(stage)
    return Played(act.title, act.expected, code, time.monotonic() - began)
