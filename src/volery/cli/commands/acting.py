"""promote, pause, resume, abort, rollback, scale, restart: acting by hand, without downtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from volery.cli.follow import exit_code, follow
from volery.cli.session import Given, Session, seconds
from volery.model.errors import Code, VoleryError

SCALE_LIMIT = "5m"


def promote(
    service: str, /, *, full: Annotated[bool, Parameter(negative=())] = False, session: Given
) -> int:
    """Let the present step of a rollout pass: whatever it waits for, you say it is good enough.

    Args:
        service: Which service.
        full: Not only this step but all that are left.
    """
    return _act(session, service, "promote", more={"full": full})


def pause(service: str, /, *, session: Given) -> int:
    """Hold a rollout where it is.

    Args:
        service: Which service.
    """
    return _act(session, service, "pause")


def resume(service: str, /, *, session: Given) -> int:
    """Let a paused rollout go on; without one, release the brake on the service's automation.

    Args:
        service: Which service.
    """
    return _act(session, service, "resume")


def abort(service: str, /, *, session: Given) -> int:
    """Turn a rollout round: the old release gets all requests again.

    Args:
        service: Which service.
    """
    return _act(session, service, "abort", wait=True)


def _act(
    session: Session,
    service: str,
    verb: str,
    *,
    wait: bool = False,
    more: Mapping[str, bool] | None = None,
) -> int:
    body = {"by": session.by} | dict(more or {})
    identity = session.client.post(f"/v1/services/{service}/{verb}", body)
    if not identity["rollouts"]:
        return _released(session, service)
    found = session.client.get(f"/v1/services/{identity['rollouts'][0]}/rollout")
    if wait:
        ended = follow(session.client, identity["rollouts"])
        found = next(item for item in ended if item["id"] == identity["rollouts"][0])
    if session.json:
        session.emit(found)
    else:
        from volery.cli.show.console import out
        from volery.cli.show.tables import rollout_line

        out().print(rollout_line(found))
    return 0


def _released(session: Session, service: str) -> int:
    """There was no paused rollout, but a brake."""
    if session.json:
        session.emit({"released": [service]})
    else:
        print(f"the automation of {service} goes on")
    return 0


def rollback(service: str, /, *, to: str | None = None, session: Given) -> int:
    """Back to an earlier release, at once: the previous one, or the one named.

    A rollout under way is turned round.

    Args:
        service: Which service.
        to: A release as `volery releases` names it; its short form will do.
    """
    body = {"by": session.by, "to": to}
    begun = session.client.post(f"/v1/services/{service}/rollback", body)
    if not begun["rollouts"]:
        return _serves_already(session, service, begun["release"])
    found = [
        item for item in follow(session.client, begun["rollouts"]) if item["service"] == service
    ]
    return _ended_at(session, found[-1], begun["release"])


def _serves_already(session: Session, service: str, release: str) -> int:
    """There is nothing to go back to: its last rollout, as `deploy` shows what is unchanged."""
    if session.json:
        found = session.client.get(f"/v1/services/{service}/rollout", live="true")
        session.emit(found | {"changed": False})
    else:
        print(f"{release} serves already")
    return 0


def _ended_at(session: Session, last: dict[str, Any], wanted: str) -> int:
    """Turned round or rolled back: what counts is whether the release asked for serves."""
    back = last["phase"] == "rolled_back"
    before, serves = (last["to"], last["from"]) if back else (last["from"], last["to"])
    reached = serves == wanted and last["phase"] in ("done", "rolled_back")
    if session.json:
        session.emit(last)
    elif reached:
        print(f"{before} -> {serves} serves")
    return 0 if reached else exit_code([last])


def restart(service: str, /, *, session: Given) -> int:
    """Replace every instance by a fresh one of the same release, missing no request.

    Args:
        service: Which service; `gateway` replaces the gateway itself.
    """
    from volery.cli import radius

    if service == "gateway" and service not in session.application.services:
        session.client.post("/v1/gateway/restart", {"by": session.by})
        found = session.client.get("/v1/status")
        session.emit(found) if session.json else print("a new gateway serves")
        return 0
    radius.confirm_restart(session, service)
    return _begin(session, f"/v1/services/{service}/restart", {"by": session.by})


def _begin(session: Session, path: str, body: dict[str, str | None]) -> int:
    begun = session.client.post(path, body)
    found = follow(session.client, begun["rollouts"])
    if session.json:
        session.emit(found[0])
    elif found[0]["phase"] == "done":
        origin = f"{found[0]['from']} -> " if found[0]["from"] != found[0]["to"] else ""
        print(f"{origin}{found[0]['to']} serves")
    return exit_code(found)


def scale(service: str, instances: int, /, *, timeout: str = SCALE_LIMIT, session: Given) -> int:
    """Set the number of instances by hand; the next `up` brings back the manifest's.

    Fewer than its `floor` is refused without --yes.

    Args:
        service: Which service.
        instances: How many; 0 takes it down.
        timeout: Give up waiting after this long (it goes on).
    """
    from volery.cli import radius
    from volery.cli.standing import until_stands

    limit = seconds("--timeout", timeout)
    assert limit is not None
    if instances < 0:
        raise VoleryError(
            f"the number of instances must be 0 or more, got {instances}",
            code=Code.INVALID,
            hint=f"volery scale {service} 0 takes it down",
        )
    insisted = radius.confirm_scale(session, service, instances)
    body = {"by": session.by, "instances": instances, "force": insisted}
    session.client.post(f"/v1/services/{service}/scale", body)
    found = until_stands(session, service, instances, limit)
    if session.json:
        session.emit(found)
    else:
        nothing = (
            "" if instances else ": it is down until it is scaled up, deployed or brought `up`"
        )
        print(f"{service} has {instances} instance{'s' if instances != 1 else ''}{nothing}")
    return 0
