"""Waiting until a service has the instances it should have, and telling what it waits for.

Each change is one line on stderr. It ends when all are ready, when the time is over, or when what
is lacking does not come up: with the instance's own reason and its last words. What was wished goes
on in any case.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from volery.cli.session import Session
from volery.model.errors import Code, VoleryError
from volery.model.units import format_duration

Json = dict[str, Any]
FAILED_STARTS = 3
TROUBLE_SECONDS = 3.0
"""How long an instance that cannot be started may take to be startable after all."""
LAST_WORDS = 10
LOOK_EVERY_SECONDS = 0.1


def until_stands(session: Session, service: str, instances: int, limit: float) -> Json:
    """Wait until so many instances are ready and no other one is left; the service as it is then.

    Raises:
        VoleryError: FAILED, some do not come up; INCONCLUSIVE, the time is over; CONFLICT, somebody
            removed it meanwhile.
    """
    deadline, shown, version, since = time.monotonic() + limit, "", "", time.monotonic()
    while True:
        wait = max(0.0, min(TROUBLE_SECONDS, deadline - time.monotonic()))
        news = session.client.get("/v1/status", unless=version, wait=wait)
        found, version = still_there(news, service), news["version"]
        there = [item for item in found["instances"] if item["track"] == "stable"]
        ready = sum(item["state"] == "ready" for item in there)
        if ready == len(there) == instances:
            return found
        said = f"{ready} of {instances} ready{_lacking(found, there)}"
        if said != shown:
            shown = said
            print(f"{service:16} {said}", file=sys.stderr)
        failed = [item for item in there if item["state"] == "failed" and item["detail"]]
        since = since if failed else time.monotonic()
        if found["start_failures"] >= FAILED_STARTS:
            raise _does_not_come_up(session, service, said, found["trouble"])
        if failed and time.monotonic() - since >= TROUBLE_SECONDS:
            raise _does_not_come_up(session, service, said, "")
        if time.monotonic() > deadline:
            raise VoleryError(
                f"{service} has {said}; not finished after {format_duration(limit)}, it goes on",
                code=Code.INCONCLUSIVE,
                hint=f"volery status {service}",
            )
        time.sleep(LOOK_EVERY_SECONDS)


def still_there(status: Json, service: str) -> Json:
    """What `status` has of a service that somebody waits for.

    Raises:
        VoleryError: CONFLICT, somebody removed it meanwhile.
    """
    if service in status["services"]:
        return dict(status["services"][service])
    raise VoleryError(
        f"{service} was removed meanwhile",
        code=Code.CONFLICT,
        hint=f"volery events --why {service}",
    )


def lacking(service: Json) -> str:
    """What a service waits for now, in one line; "" if nothing is known to be lacking."""
    trouble, primary = service["trouble"] or "", service["primary"]
    change = primary["handover"] if primary and primary["changing"] else None
    # Of one in trouble its state is no news: it starts and ends again and again.
    there = [item for item in service["instances"] if item["id"] not in trouble.split()]
    told: list[str | None] = [trouble, *_unready(there), primary and primary["waits"]]
    told += [change and change["waits"], *(item["because"] for item in service["waiting"])]
    return "; ".join(text for text in told if text)


def _lacking(service: Json, there: list[Json]) -> str:
    """Who is not ready, and why."""
    told = _unready(there)
    if service["trouble"] and not any(item["detail"] for item in there if item["state"] != "ready"):
        told.append(service["trouble"])
    return "".join(f"; {text}" for text in told)


def _unready(there: list[Json]) -> list[str]:
    waits = [item for item in there if item["state"] != "ready"]
    return [f"{item['id']} {item['state']}" + _because(item["detail"]) for item in waits]


def _because(detail: str) -> str:
    return f": {detail}" if detail else ""


def _does_not_come_up(session: Session, service: str, said: str, trouble: str) -> VoleryError:
    """What went wrong; its last words are shown at once."""
    identity = trouble.partition(" ")[0]
    for line in _last_words(session, service, identity) if identity else ():
        print(f"{'':16} | {line}", file=sys.stderr)
    return VoleryError(
        f"{service} has {said}; it is tried again and again",
        hint=f"volery logs {service}; fewer instances: volery scale {service} N",
    )


def _last_words(session: Session, service: str, identity: str) -> list[str]:
    try:
        lines = list(
            session.client.stream(
                f"/v1/services/{service}/logs", instance=identity, lines=LAST_WORDS
            )
        )
    except VoleryError:  # its log is gone: the reason alone has to do
        return []
    return [line["text"] for line in lines][-LAST_WORDS:]
