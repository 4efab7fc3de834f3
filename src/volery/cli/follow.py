"""Following rollouts to their end: one line per phase with its duration, the reason in place.

A step that goes by evidence has a line when it begins, and one when it is passed, with what decided
it. On a terminal the last line moves: it says what is under way and what is still needed.
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from volery.api.client import Client
from volery.cli.show.console import err, styled
from volery.model.errors import Code, VoleryError
from volery.model.units import format_duration

Json = dict[str, Any]
ENDED = ("done", "rolled_back", "failed")
LOOK_EVERY_SECONDS = 0.15
INDENT = 17


def follow(client: Client, ids: Sequence[str], timeout: float | None = None) -> list[Json]:
    """Wait until the rollouts, and what belongs together with them, have ended; show how they go.

    Raises:
        VoleryError: the time is over; the rollouts go on.
    """
    if not ids:
        return []
    story, version = _Story(client), ""
    deadline = None if timeout is None else time.monotonic() + timeout
    with story:
        while True:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            news = client.get("/v1/rollouts", ids=",".join(ids), unless=version, wait=wait)
            found, version = news["rollouts"], news["version"]
            story.show(found)
            if is_over(found):
                return list(found)
            if deadline is not None and time.monotonic() > deadline:
                raise VoleryError(
                    f"not finished after {format_duration(timeout or 0)}; it goes on",
                    code=Code.INCONCLUSIVE,
                    hint="volery status",
                )
            time.sleep(LOOK_EVERY_SECONDS)


def is_over(rollouts: Sequence[Json]) -> bool:
    """Whether nothing more happens by itself: all have ended, or wait for one that waits for a
    person because its evidence did not suffice."""
    going = [item for item in rollouts if item["phase"] not in ENDED]
    waits = [item for item in going if not is_undecided(item)]
    behind = all(item["phase"] == "building" and item["reason"] for item in waits)
    return not going or (len(waits) < len(going) and behind)


def is_undecided(rollout: Json) -> bool:
    """Whether it waits for a person because the evidence did not suffice in time."""
    return bool(rollout["phase"] == "paused" and rollout["verdict"] == "inconclusive")


def exit_code(rollouts: Sequence[Json]) -> int:
    """0 all done; 3 something was refused and rolled back; 5 the evidence did not suffice;
    1 something failed with nothing to go back to, or gave way to a newer rollout."""
    asked = [item for item in rollouts if item["cause"] != "rollback" or len(rollouts) == 1]
    ended = [item for item in asked if item["phase"] in ("rolled_back", "failed", "paused")]
    if any(item["superseded_by"] for item in ended):
        return 1
    if any(item["phase"] == "rolled_back" and item["verdict"] != "inconclusive" for item in ended):
        return 3
    if any(item["verdict"] == "inconclusive" for item in ended):
        return 5
    return 1 if any(item["phase"] == "failed" for item in ended) else 0


class _Story:
    """Prints each change once; on a terminal also a moving line with what is under way."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: dict[str, tuple[str, int, int]] = {}
        self._since: dict[str, float] = {}
        self._status = err().status("") if sys.stderr.isatty() else None

    def __enter__(self) -> _Story:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def show(self, rollouts: Sequence[Json]) -> None:
        for item in rollouts:
            now = (item["phase"], item["step"], item["weight"])
            if self._seen.get(item["id"]) != now and not _is_between_steps(item):
                self._tell(item, self._seen.get(item["id"]))
                self._seen[item["id"]] = now
        if self._status:
            going = [_going(item) for item in rollouts if item["phase"] not in ENDED]
            self._status.update(escape("; ".join(going)))

    def _tell(self, item: Json, before: tuple[str, int, int] | None) -> None:
        moment = time.monotonic()
        phase = "" if before is None else before[0]
        spent = format_duration(moment - self._since.get(item["id"], moment))
        advanced = before is not None and 0 < before[1] < item["step"]
        if item["strategy"] == "canary" and before is not None and advanced:
            passed = f"{_step(item, before[1])} passed after {spent}: {self._decided_by(item)}"
            self._beneath(passed, item["service"])
            phase = ""
        if phase != item["phase"]:
            self._since[item["id"]] = moment
        took = phase not in ("", item["phase"])
        line = f"{item['service']:16} {styled(item['phase'])}"
        if item["phase"] in ("shifting", "analysing") and item["step"]:
            line += f" {_step(item, item['step'])}, {item['weight']:g} % of requests"
        if before is None or item["phase"] in ENDED:
            line += f" {item['to']}"
        err().print(line + (f" ({phase.replace('_', ' ')} took {spent})" if took else ""))
        if item["phase"] in ("rolled_back", "failed", "paused") and phase != item["phase"]:
            self._why(item)

    def _decided_by(self, item: Json) -> str:
        """What let the step before this one pass, as the ledger says."""
        events = self._client.get("/v1/events", service=item["service"], limit=50)["events"]
        for event in events:
            data = event["data"]
            here = (event["kind"], data.get("rollout"), data.get("step"))
            if here == ("rollout.shifting", item["id"], item["step"]):
                if data["verdict"] == "promote":
                    return str(data["evidence"][0])
                return "by hand" if data["verdict"] == "continue" else "without enough evidence"
        return f"see volery rollout {item['id']} --explain"

    def _why(self, item: Json) -> None:
        self._beneath(f"because: {item['reason']}")
        for line in item["evidence"]:
            if line["state"] in ("bad", "missing") and line["text"] not in item["reason"]:
                self._beneath(line["text"])
        for line in item["log"]:
            err().print(f"{'':16} | {line}", markup=False)
        if item["phase"] == "paused":
            self._beneath(_ways_on(item["service"]))

    def _beneath(self, text: str, service: str = "") -> None:
        """A line, continued under its beginning where a terminal is narrow."""
        width = max(err().width - INDENT, 40)
        for number, part in enumerate(textwrap.wrap(text, width) or [""]):
            err().print(f"{'' if number else service:{INDENT - 1}} {part}", markup=False)


def _ways_on(service: str) -> str:
    """What a person can do with a paused rollout."""
    return (
        f"go on: volery resume {service}; let this step pass: volery promote {service};"
        f" go back: volery abort {service}"
    )


def _step(item: Json, step: int) -> str:
    return f"step {step}/{item['steps']}"


def _is_between_steps(item: Json) -> bool:
    """Whether a canary's next step is only a moment away: it has a line when it begins."""
    between = item["strategy"] == "canary" and item["phase"] == "shifting"
    return bool(between and item["step"] < item["steps"])


def _going(item: Json) -> str:
    text = f"{item['service']} {item['phase']}"
    if item["phase"] == "analysing":
        text += f" {_step(item, item['step'])}, {item['weight']:g} % of requests"
    return f"{text}: {item['reason']}" if item["reason"] else text
