"""Breaks things before the audience: kills an instance, and takes the database away for a moment.

The database is the cart, whose only instance is killed while its shim is held, so that nobody
starts it again until the act lets go. What users get meanwhile is asked as a user would ask.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from volery.demo.stage import Stage
from volery.model.units import format_duration

Policy = Literal["fail_fast", "keep_trying"]
PATIENCE_SECONDS = 60.0
AWAY_SECONDS = 1.0
"""So long the database stays away once somebody asks for it, where the caller keeps trying; else
until there is an answer."""
STOREFRONT_SECONDS = 10.0
"""For so long the storefront waits for its cart."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What one user got."""

    status: int
    seconds: float
    text: str

    def __str__(self) -> str:
        return f"{self.status} after {format_duration(self.seconds)}: {self.text}"


def kill_one(stage: Stage) -> int:
    """Kill one instance of the catalog and wait until all is as before."""
    victim = next(item for item in _instances(stage, "catalog") if item["state"] == "ready")
    stage.say(f"\n$ kill -9 {victim['pid']}    # {victim['id']}, while it answers users")
    os.kill(victim["pid"], signal.SIGKILL)
    began = time.monotonic()
    if not _until(lambda: _is_whole(stage, "catalog", victim["pid"])):
        stage.say("  it was not replaced")
        return 1
    stage.say(f"  all instances are ready again {format_duration(time.monotonic() - began)} later")
    return stage.volery("events", "--why", "catalog")


def without_database(policy: Policy) -> Callable[[Stage], int]:
    """An act: the storefront's need of the cart gets a policy, and the cart goes away."""

    def play(stage: Stage) -> int:
        stage.need("cart", f"{{importance: critical, timeout: 10s, when_unavailable: {policy}}}")
        code = stage.volery("deploy", "storefront")
        if code != 0:
            return code
        with _away(stage, "cart") as back:
            after = threading.Timer(AWAY_SECONDS, back)
            if policy == "keep_trying":
                after.start()
            answer = _ask(stage, "/api/cart/anna")
            after.cancel()
        stage.say(f"  a user who asks for the cart meanwhile gets {answer}")
        came_back = _until(lambda: _ask(stage, "/api/cart/anna").status == http.client.OK)
        return 0 if came_back and _is_as_promised(policy, answer) else 1

    return play


def _is_as_promised(policy: Policy, answer: Answer) -> bool:
    """fail_fast: an error, with no waiting. keep_trying: the answer, when the database was back."""
    if policy == "fail_fast":
        return answer.status == http.client.BAD_GATEWAY and answer.seconds < STOREFRONT_SECONDS / 2
    return answer.status == http.client.OK


@contextmanager
def _away(stage: Stage, service: str) -> Iterator[Callable[[], None]]:
    """The only instance of a service is gone until the function given is called."""
    victim = _instances(stage, service)[0]
    shim = _parent(victim["pid"])
    stage.say(
        f"\n$ kill -9 {victim['pid']}    # {victim['id']}, and nobody may start it for a while"
    )
    os.kill(shim, signal.SIGSTOP)
    try:
        os.kill(victim["pid"], signal.SIGKILL)
        _until(lambda: _instances(stage, service)[0]["state"] != "ready")
        yield lambda: os.kill(shim, signal.SIGCONT)
    finally:
        os.kill(shim, signal.SIGCONT)


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - not a file on disk
        return int(stat.read().rpartition(")")[2].split()[1])


def _instances(stage: Stage, service: str) -> list[Json]:
    found: list[Json] = stage.ask("/v1/status")["services"][service]["instances"]
    return found


def _is_whole(stage: Stage, service: str, dead: int) -> bool:
    state = stage.ask("/v1/status")["services"][service]
    there = [item for item in state["instances"] if item["state"] == "ready"]
    return len(there) == state["desired"] and dead not in {item["pid"] for item in there}


def _ask(stage: Stage, path: str) -> Answer:
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
    finally:
        connection.close()
    return Answer(answer.status, time.monotonic() - began, text)


def _until(condition: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
