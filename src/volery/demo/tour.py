"""The tour: up, users, good and bad releases, an instance killed, a database gone.

Users are played by the prober from the first act to the last. The report says how many requests
they sent, how many bad releases failed before they were taken back, and how many Volery itself
lost. Each act has the exit code it must have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from volery.demo.breakage import kill_one, without_database
from volery.demo.harm import Window, failed_by, record
from volery.demo.stage import Stage
from volery.demo.story import Story
from volery.model.units import format_duration
from volery.prober import Kind, ProbePlan, ProbeReport, Running, Stream, probing

Json = dict[str, Any]
LONGEST_SECONDS = 900.0


@dataclass(frozen=True)
class Act:
    """One thing the tour does: what it shows, and which exit code is right."""

    title: str
    expected: int
    play: Callable[[Stage], int]
    breaks: bool = False
    """It breaks something itself, so what users lose meanwhile is its doing."""


@dataclass(frozen=True)
class Played:
    """How an act went."""

    title: str
    expected: int
    code: int
    seconds: float
    story: Story | None = None
    broken: int = 0
    """Users' requests that failed because of what the act itself broke."""

    @property
    def harmed(self) -> int:
        """Users' requests that the new release, or what was broken on purpose, failed."""
        return len(self.story.harmed) if self.story else self.broken

    def as_json(self) -> Json:
        """One act of the report."""
        return {
            "title": self.title,
            "expected": self.expected,
            "code": self.code,
            "seconds": round(self.seconds, 3),
            "harmed": self.harmed,
            "rollout": self.story.rollout if self.story else None,
        }


@dataclass(frozen=True)
class Report:
    """The whole tour."""

    acts: tuple[Played, ...]
    traffic: ProbeReport | None
    seconds: float

    @property
    def harmed(self) -> int:
        """Users' requests that bad releases failed before they were taken back, or that what was
        broken on purpose failed."""
        return sum(act.harmed for act in self.acts)

    @property
    def lost(self) -> int:
        """Users' requests that failed though no release failed them: Volery lost them."""
        return max(0, self.traffic.lost - self.harmed) if self.traffic else 0

    @property
    def good(self) -> bool:
        """Every act ended as it must, users were there, and Volery lost none of their requests."""
        right = all(act.code == act.expected for act in self.acts)
        return right and self.traffic is not None and self.traffic.ok > 0 and not self.lost

    def as_json(self) -> Json:
        """One document."""
        return {
            "good": self.good,
            "seconds": round(self.seconds, 3),
            "lost_by_volery": self.lost,
            "failed_by_bad_releases": self.harmed,
            "acts": [act.as_json() for act in self.acts],
            "traffic": self.traffic.as_json() if self.traffic else None,
        }

    def render(self) -> str:
        """For people."""
        lines = ["", "The tour in short", "-----------------"]
        for act in self.acts:
            mark = "as it must be" if act.code == act.expected else f"WRONG, must be {act.expected}"
            took = format_duration(act.seconds)
            lines.append(f"{act.title:50} exit code {act.code}, {mark} ({took})")
        if self.traffic is not None:
            lines += ["", "What users got meanwhile", self.traffic.render(samples=0)]
            lines += [
                "(lost: without its right answer, whoever failed it; whose doing it was is below)",
                "",
                f"requests sent {self.traffic.sent}, requests lost by Volery {self.lost};"
                f" requests that bad releases and what was broken failed: {self.harmed}",
                f"the whole tour took {format_duration(self.seconds)}",
            ]
        return "\n".join(lines)


def _deploy(service: str, variant: str | None) -> Callable[[Stage], int]:
    def play(stage: Stage) -> int:
        stage.variant(service, variant)
        if variant is None:
            stage.edit(service)
        return stage.volery("deploy", service)

    return play


ACTS = (
    Act("a good catalog passes its canary", 0, _deploy("catalog", None)),
    Act("back to the first catalog, at once", 0, lambda it: it.volery("rollback", "catalog")),
    Act("a catalog whose tests fail is refused", 3, _deploy("catalog", "tests-fail")),
    Act("a catalog that fails requests is taken back", 3, _deploy("catalog", "errors")),
    Act("a catalog that is slow is taken back", 3, _deploy("catalog", "slow")),
    Act("a catalog that crashes again and again is too", 3, _deploy("catalog", "crash-loop")),
    Act("an instance of the catalog is killed", 0, kill_one, breaks=True),
    Act("database down: fail fast", 0, without_database("fail_fast"), breaks=True),
    Act("database down: keep trying", 0, without_database("keep_trying"), breaks=True),
)


def _users(url: str) -> ProbePlan:
    catalog, web = f"{url}/api/catalog/birds", url.replace("http://", "ws://")
    return ProbePlan(
        streams=(
            Stream(Kind.HTTP1, f"{url}/api/birds", rate=20),
            Stream(Kind.HTTP1, catalog, rate=80, name="http1 catalog"),
            Stream(Kind.HTTP1_FRESH, catalog, rate=20),
            Stream(Kind.HTTP2, catalog, rate=60),
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
        users.wait_for(5, timeout=60)
        stage.say(f"\nFrom now on users send requests to {stage.url}, all the time.")
        played += [_watched(stage, act, users) for act in ACTS]
    stage.volery("releases", "catalog")
    return played, users.report


def _watched(stage: Stage, act: Act, users: Running) -> Played:
    """An act, and what it did to users."""
    if not act.breaks:
        return _told(stage, _act(stage, act))
    before = users.failed
    played = _act(stage, act)
    users.wait_for(5, timeout=60)
    broken = users.failed - before
    stage.say(f"  requests of users that failed because of it: {broken}")
    return replace(played, broken=broken)


def _act(stage: Stage, act: Act) -> Played:
    stage.say(f"\n=== {act.title}")
    began = time.monotonic()
    code = act.play(stage)
    return Played(act.title, act.expected, code, time.monotonic() - began)


def _told(stage: Stage, played: Played) -> Played:
    """The act with its story, told."""
    story = _story(stage, stage.ask("/v1/services/catalog/rollout"))
    stage.say()
    for line in story.lines():
        stage.say(line)
    return replace(played, story=story)


def _story(stage: Stage, rollout: Json) -> Story:
    harmed: frozenset[str] = frozenset()
    if rollout["phase"] == "rolled_back" and rollout["seconds"]["shift"]:
        group = f"{rollout['service']}~{rollout['slot']}"
        window = Window(group, rollout["started_at"], rollout["finished_at"])
        harmed = failed_by(window, record(stage.traffic, rollout["finished_at"]))
    events = stage.ask("/v1/events", service="catalog")["events"]
    undecided = [
        event
        for event in events
        if event["kind"] == "rollout.shifting"
        and event["data"]["rollout"] == rollout["id"]
        and event["data"]["verdict"] == "inconclusive"
    ]
    return Story(rollout, harmed, len(undecided))
