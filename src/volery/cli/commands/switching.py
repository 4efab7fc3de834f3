"""switchover: another instance of a stateful service becomes its primary, by hand."""

from __future__ import annotations

import sys
import time
from typing import Any

from volery.cli.session import Given, Session, seconds
from volery.cli.standing import still_there
from volery.model.errors import Code, VoleryError
from volery.model.units import format_duration

LIMIT = "5m"
Json = dict[str, Any]


def switchover(
    service: str, /, *, to: str | None = None, timeout: str = LIMIT, session: Given
) -> int:
    """Make a replica in sync the primary: a backup, a clean stop, then the promotion.

    Args:
        service: Which service.
        to: Which instance; the most advanced one if not said. One that is behind is not taken.
        timeout: Give up waiting after this long (it goes on).
    """
    limit = seconds("--timeout", timeout)
    assert limit is not None
    body = {"by": session.by, "to": to}
    number = session.client.post(f"/v1/services/{service}/switchover", body)["handover"]
    found = _ended(session, service, number, limit)
    if found["handover"]["step"] == "abandoned":
        raise VoleryError(
            f"{service} was not switched over: {found['handover']['reason']}",
            hint=f"{found['instance']} still is the primary; volery events says more",
        )
    if session.json:
        session.emit(found)
    else:
        print(f"{found['instance']} is the primary of {service} in term {found['term']}")
    return 0


def _ended(session: Session, service: str, number: int, limit: float) -> Json:
    """The tenure when this handover is over; each step is a line on stderr."""
    deadline, shown, version = time.monotonic() + limit, "", ""
    while True:
        wait = max(0.0, min(3.0, deadline - time.monotonic()))
        news = session.client.get("/v1/status", unless=version, wait=wait)
        found, version = still_there(news, service)["primary"], news["version"]
        if found is None:
            raise VoleryError(
                f"{service} has no roles any more",
                code=Code.CONFLICT,
                hint=f"volery events --why {service}",
            )
        handover = found["handover"]
        if handover["number"] != number or not found["changing"]:
            return dict(found)
        said = handover["step"] + (f": {handover['waits']}" if handover["waits"] else "")
        if said != shown:
            shown = said
            print(f"{service:16} {said}", file=sys.stderr)
        if time.monotonic() > deadline:
            raise VoleryError(
                f"{service}: {said}; not finished after {format_duration(limit)}, it goes on",
                code=Code.INCONCLUSIVE,
                hint=f"volery status {service}",
            )
