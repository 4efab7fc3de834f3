"""Following rollouts to their end: one line per phase with its duration, the reason in place.

A step that goes by evidence has a line when it begins, and one when it is passed, with what decided
it. Where instances start and stop and nothing was said for a while, a line says what is waited for.
On a terminal the last line moves: it says what is under way and what is still needed.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from volery.api.client import Client
from volery.cli.show.console import err, give_back_cursor, moves, styled
from volery.cli.standing import lacking
from volery.model.errors import Code, VoleryError
from volery.model.units import format_duration

Json = dict[str, Any]
ENDED = ("done", "rolled_back", "failed")
MOVING = ("starting", "shifting", "promoting", "rolling_back")
"""In these phases instances are waited for."""
LOOK_EVERY_SECONDS = 0.15
QUIET_SECONDS = 3.0
"""After so long without a line it is said what is waited for."""
ANALYSING_SECONDS = 10.0
"""After so long in a step, with no terminal to say it all the time, it is said what it needs."""
INDENT = 17
UNSEEN = ": nothing seen yet"


def follow(
    client: Client, ids: Sequence[str], timeout: float | None = None, *, attended: bool = False
) -> list[Json]:
    """Wait until the rollouts, and those that can still turn them round, have ended; show how they
    go. Approvals and gates that hold are waited for only where somebody attends.

    Raises:
        VoleryError: the time is over; the rollouts go on.
    """
    if not ids:
        return []
    story, version = _Story(client), ""
    deadline = None if timeout is None else time.monotonic() + timeout
    with story:
        while True:
            left = QUIET_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            wait = min(QUIET_SECONDS, left)
            news = client.get("/v1/rollouts", ids=",".join(ids), unless=version, wait=wait)
            found, version = _concerning(news["rollouts"], ids), news["version"]
            story.show(found)
            ended = at_end(news["rollouts"], ids, attended=attended)
            if ended is not None:
                return ended
            story.show_lacking(found)
            if deadline is not None and time.monotonic() > deadline:
                raise VoleryError(
                    f"not finished after {format_duration(timeout or 0)}; it goes on",
                    code=Code.INCONCLUSIVE,
                    hint="volery status",
                )
            time.sleep(LOOK_EVERY_SECONDS)


def at_end(rollouts: Sequence[Json], ids: Sequence[str], *, attended: bool) -> list[Json] | None:
    """How those asked for, and what can still turn them round, stand in the end; None before that.
    `rollouts` are those of their groups."""
    # What was asked for may wait for one of its group that waits for a person.
    for those in (_concerning(rollouts, ids), rollouts):
        if is_over(those, attended=attended):
            return list(those)
    return None


def _concerning(rollouts: Sequence[Json], ids: Sequence[str]) -> list[Json]:
    """Of a group, those asked for and what can still turn them round. Services that are deployed
    together go back together; of those that one `up` brings each ends by itself."""
    asked = [item for item in rollouts if item["id"] in ids]
    services = {item["service"] for item in asked}
    groups = {item["group"] for item in asked if item["cause"] == "deploy"}
    return [item for item in rollouts if item["service"] in services or item["group"] in groups]


def is_over(rollouts: Sequence[Json], *, attended: bool) -> bool:
    """Whether nothing more happens by itself: all have ended, or wait for one that waits for a
    person. Whoever pauses a rollout by hand is there, and for one who attends it is worth waiting
    until a gate or an approval lets it go on."""
    alone = ("evidence",) if attended else ("evidence", "gate", "approval")
    going = [item for item in rollouts if item["phase"] not in ENDED]
    waits = [item for item in going if item["paused_for"] not in alone]
    return not going or (len(waits) < len(going) and all(_is_behind(item, going) for item in waits))


def _is_behind(rollout: Json, going: Sequence[Json]) -> bool:
    """Whether it only waits for another of these."""
    unbegun = rollout["phase"] == "building" and rollout["reason"]
    return bool(unbegun or rollout["reason"] in {f"waits for {item['service']}" for item in going})


def exit_code(rollouts: Sequence[Json]) -> int:
    """0 all done; 3 something was refused and rolled back; 5 the evidence did not suffice, or a
    person has to say that it may go on; 1 something failed with nothing to go back to, or gave way
    to a newer rollout."""
    asked = [
        item for item in rollouts if item["cause"] not in ("rollback", "heal") or len(rollouts) == 1
    ]
    ended = [item for item in asked if item["phase"] in ("rolled_back", "failed", "paused")]
    if any(item["superseded_by"] for item in ended):
        return 1
    if any(item["phase"] == "rolled_back" and item["verdict"] != "inconclusive" for item in ended):
        return 3
    if any(item["phase"] == "paused" or item["verdict"] == "inconclusive" for item in ended):
        return 5
    return 1 if any(item["phase"] == "failed" for item in ended) else 0


class _Story:
    """Prints each change once; on a terminal also a moving line with what is under way."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: dict[str, tuple[str, int, int]] = {}
        self._since: dict[str, float] = {}
        self._lacking: dict[str, str] = {}
        self._told_at = time.monotonic()
        self._status = err().status("") if moves(err()) else None

    def __enter__(self) -> _Story:
        if self._status:
            give_back_cursor()
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def show(self, rollouts: Sequence[Json]) -> None:
        for item in rollouts:
            now = (item["phase"], item["step"], item["weight"])
            hidden = _is_between_steps(item) or _builds_nothing(item)
            if self._seen.get(item["id"]) != now and not hidden:
                self._tell(item, self._seen.get(item["id"]))
                self._seen[item["id"]] = now
                self._told_at = time.monotonic()
        if self._status:
            going = [_going(item) for item in rollouts if item["phase"] not in ENDED]
            self._status.update(escape("; ".join(going)))

    def show_lacking(self, rollouts: Sequence[Json]) -> None:
        """What is waited for, if nothing was said for a while and it has not been said before."""
        if self._status is None and time.monotonic() - self._told_at >= ANALYSING_SECONDS:
            self._tell_needed([item for item in rollouts if item["phase"] == "analysing"])
        moving = [item["service"] for item in rollouts if item["phase"] in MOVING]
        if not moving or time.monotonic() - self._told_at < QUIET_SECONDS:
            return
        services = self._client.get("/v1/status")["services"]
        for name in moving:
            said = lacking(services[name]) if name in services else ""  # removed meanwhile
            if said and said != self._lacking.get(name):
                self._lacking[name] = said
                self._beneath(f"waits: {said}", name)
                self._told_at = time.monotonic()

    def _tell_needed(self, rollouts: Sequence[Json]) -> None:
        """What the evidence of a step lacks, once for each step."""
        for item in rollouts:
            step = f"{item['id']} {item['step']}"
            if item["reason"] and step not in self._lacking:
                self._lacking[step] = item["reason"]
                self._beneath(f"waits: {item['reason']}", item["service"])

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
        idle = phase == "building" and not item["seconds"]["build"]
        took = phase not in ("", item["phase"]) and not idle
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
                if data["verdict"] != "continue":
                    return "without enough evidence"
                return "by hand" if event["cause"] == item["cause"] else str(event["cause"])
        return f"see volery rollout {item['id']} --explain"

    def _why(self, item: Json) -> None:
        self._beneath(f"because: {item['reason']}")
        for text in _evidence(item):
            self._beneath(text)
        for line in item["log"]:
            err().print(f"{'':16} | {line}", markup=False)
        if item["phase"] == "rolled_back" and item["seconds"]["shift"] and not item["log"]:
            self._beneath(f"what it wrote: volery logs {item['service']} --previous")
        if item["phase"] == "paused":
            self._beneath(_ways_on(item))

    def _beneath(self, text: str, service: str = "") -> None:
        """A line, continued under its beginning where a terminal is narrow."""
        width = max(err().width - INDENT, 40)
        for number, part in enumerate(textwrap.wrap(text, width) or [""]):
            err().print(f"{'' if number else service:{INDENT - 1}} {part}", markup=False)


def _evidence(item: Json) -> list[str]:
    """What was measured, where that decided, and the reason does not say it already."""
    lacking = item["paused_for"] == "evidence" or (
        item["phase"] == "rolled_back" and item["verdict"] == "inconclusive"
    )
    if not lacking and item["verdict"] != "abort":
        return []
    found = [line for line in item["evidence"] if line["text"] not in item["reason"]]
    missing = [line for line in found if line["state"] == "missing" and lacking]
    unseen = [line["metric"] for line in missing if line["text"].endswith(UNSEEN)]
    return [
        *(line["text"] for line in found if line["state"] == "bad"),
        *(line["text"] for line in missing if not line["text"].endswith(UNSEEN)),
        *([f"{', '.join(unseen)}{UNSEEN}"] if unseen else []),
    ]


def _ways_on(item: Json) -> str:
    """What a person can do with a paused rollout: only what helps."""
    service = item["service"]
    promote, back = f"volery promote {service}", f"go back: volery abort {service}"
    if item["paused_for"] == "approval":
        return f"go on: {promote}; {back}"
    words = {"gate": "ask again", "evidence": "wait for more evidence"}.get(
        item["paused_for"], "go on"
    )
    return f"{words}: volery resume {service}; let this step pass: {promote}; {back}"


def _step(item: Json, step: int) -> str:
    return f"step {step}/{item['steps']}"


def _is_between_steps(item: Json) -> bool:
    """Whether a canary's next step is only a moment away: it has a line when it begins."""
    between = item["strategy"] == "canary" and item["phase"] == "shifting"
    return bool(between and item["step"] < item["steps"])


def _builds_nothing(item: Json) -> bool:
    """Whether it brings a release that exists: its first phase is over in a moment, or it waits."""
    return bool(item["phase"] == "building" and item["cause"] not in ("up", "deploy"))


def _going(item: Json) -> str:
    """What is under way, and what is still needed: short, for a terminal cuts it off."""
    text = f"{item['service']} {item['phase'].replace('_', ' ')}"
    if item["phase"] == "analysing":
        text = f"{item['service']} {_step(item, item['step'])}, {item['weight']:g} %"
    return f"{text}: {item['reason']}" if item["reason"] else text
