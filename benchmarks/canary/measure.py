"""Deploys each release on top of a good one that serves 200 requests a second, and watches.

One environment a round: the good release runs through all bad ones, as it would for real, so every
case begins with a known service. Users are Volery's prober, in this process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.application import Application, application, write_service
from benchmarks.canary.cases import Case
from benchmarks.canary.outcome import Outcome, entries, outcome
from benchmarks.options import say
from volery.prober import Kind, ProbePlan, Running, Stream, probing

RATE = 200.0
KNOWN_SECONDS = 60.0
"""So long the good release serves before anything is deployed."""
LONGEST_SECONDS = 900.0
LOOK_SECONDS = 0.3
Json = dict[str, Any]


@dataclass
class Watched:
    """What was seen of one deploy."""

    outcome: Outcome
    looks: list[tuple[float, Json]] = field(default_factory=list)
    """The rollout at moments since the deploy began."""


def rounds(cases: Sequence[Case], number: int, known: float) -> Iterator[tuple[Case, Watched]]:
    """Every case in every round."""
    for turn in range(1, number + 1):
        with application() as app, (app.folder.parent / "book").open("w+") as book:
            _up(app, Path(book.name))
            with _users(app) as users:
                users.wait_for(round(RATE * known), timeout=known * 4 + 60)
            for version, case in enumerate(cases, 2):
                say(f"round {turn} of {number}: {case.name} ...")
                watched = _deploy(app, Path(book.name), case, version)
                say(f"{_said(watched.outcome)}")
                yield case, watched


def _said(found: Outcome) -> str:
    return (
        f"exit {found.code} after {found.seconds:.1f} s, exposed {found.exposed:.1f} s,"
        f" harmed {found.harmed}, lost {found.lost}: {found.reason}"
    )


def _up(app: Application, book: Path) -> None:
    """The good release, and users."""
    _write(app, 1, Case("first", 0))
    app.add(
        "bird",
        "bird",
        "/",
        env={"BOOK": str(book)},
        scale=2,
        health={"ready": {"tcp": True}, "every": "250ms", "startup": "20s"},
        stop={"drain": "3s", "grace": "3s"},
        deploy={"strategy": "canary"},
    )
    app.volery("up")


@contextmanager
def _users(app: Application) -> Iterator[Running]:
    """Independent users at a steady rate."""
    stream = Stream(Kind.HTTP1, f"http://127.0.0.1:{app.port}/", RATE, connections=16)
    with probing(ProbePlan((stream,), LONGEST_SECONDS)) as running:
        running.wait_for(20)
        yield running


def _write(app: Application, version: int, case: Case) -> None:
    folder = app.folder / "bird"
    write_service(folder, "bird", version)
    (folder / "behaviour.json").write_text(json.dumps(dict(case.behaviour)))


def _deploy(app: Application, book: Path, case: Case, version: int) -> Watched:
    _write(app, version, case)
    _set_steps(app, case)
    with _users(app) as users:
        users.wait_for(round(RATE * 5), timeout=60)
        code, seconds, looks = _watched(app, case)
        users.wait_for(round(RATE * 2), timeout=60)
    found = entries(book.read_text().splitlines())
    mine = [entry for entry in found if entry.version == str(version)]
    reason = looks[-1][1]["reason"] if looks else ""
    causes = users.report.causes
    return Watched(outcome(case, mine, causes, code=code, seconds=seconds, reason=reason), looks)


def _set_steps(app: Application, case: Case) -> None:
    path = app.folder / "volery.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["services"]["bird"]["deploy"]["steps"] = list(case.steps)
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))


def _watched(app: Application, case: Case) -> tuple[int, float, list[tuple[float, Json]]]:
    """Type the command and look at the rollout until it ends."""
    command = [sys.executable, "-m", "volery", "deploy", "bird", "--strategy", case.strategy]
    began, looks = time.monotonic(), []
    with subprocess.Popen(
        command,
        cwd=app.folder,
        env=dict(app.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while process.poll() is None:
                looks.append(_look(app, began))
                time.sleep(LOOK_SECONDS)
                if time.monotonic() - began > LONGEST_SECONDS:
                    raise RuntimeError(f"{case.name}: still not over after {LONGEST_SECONDS:g} s")
        finally:
            process.kill()
    seconds = time.monotonic() - began
    return process.returncode, seconds, [*looks, _look(app, began)]


def _look(app: Application, began: float) -> tuple[float, Json]:
    return time.monotonic() - began, app.client.get("/v1/services/bird/rollout")
