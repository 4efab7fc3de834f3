"""guard: what may be disturbed now, who waits and for what; stopping and releasing automation."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from volery.cli.session import Given, Session, seconds
from volery.model.errors import Code, VoleryError
from volery.model.guard import LONGEST_SECONDS
from volery.model.units import format_duration

All = Annotated[bool, Parameter(name="--all", negative=())]


def list_(*, session: Given) -> int:
    """Show the budget, who is disturbed now, who waits and for what, and which brakes are on."""
    found = session.client.get("/v1/guard")
    if session.json:
        session.emit(found)
        return 0
    from volery.cli.show.guard import show_guard

    show_guard(found)
    return 0


def stop_(
    service: str | None = None,
    /,
    *,
    everything: All = False,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    session: Given,
) -> int:
    """Stop the automation of a service, or of everything, by hand. It goes on by itself later.

    Bad instances are still taken out of rotation, and what people ask for is still done.

    Args:
        service: Which service.
        everything: Of every service.
        for_: For how long, such as 30m; by default as the environment's guard says.
    """
    limit = seconds("--for", for_)
    if limit is not None and not 0 < limit <= LONGEST_SECONDS:
        raise VoleryError(
            f"--for must be more than 0 and at most {format_duration(LONGEST_SECONDS)}, got {for_}",
            code=Code.INVALID,
            hint="--for 30m",
        )
    body = _body(session, service, everything, "stop") | {"seconds": limit}
    found = session.client.post("/v1/guard/stop", body)
    if session.json:
        session.emit(found)
    else:
        what = f"the automation of {found['service']}" if found["service"] else "all automation"
        print(f"{what} stands still until {found['until']}; {_release_line(found)} ends it sooner")
    return 0


def release_(service: str | None = None, /, *, everything: All = False, session: Given) -> int:
    """Let automation go on that was stopped, by itself or by hand.

    Args:
        service: Which service.
        everything: Every brake there is.
    """
    body = _body(session, service, everything, "release")
    found = session.client.post("/v1/guard/release", body)
    if session.json:
        session.emit(found)
    else:
        names = ", ".join(item["service"] or "everything" for item in found["released"])
        print(f"automation goes on: {names}")
    return 0


def _body(session: Session, service: str | None, everything: bool, verb: str) -> dict[str, Any]:
    if (service is None) != everything:
        raise VoleryError(
            "which service? name one, or say --all",
            code=Code.INVALID,
            hint=f"volery guard {verb} SERVICE, or volery guard {verb} --all",
        )
    return {"by": session.by, "service": service}


def _release_line(brake: dict[str, Any]) -> str:
    return f"volery guard release {brake['service'] or '--all'}"
