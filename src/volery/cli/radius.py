"""The blast radius of commands that destroy something: what they would hit, in lines for people.

Asked for only where it is shown: in environments that look like production, or before volumes are
deleted. Looking starts no control plane.
"""

from __future__ import annotations

from typing import Any

from volery.cli.session import Session


def of_everything(session: Session) -> list[str]:
    """What `down` stops."""
    return [
        f"{name}: {_ready(service)} stop{_reached(service)}"
        for name, service in _services(session).items()
    ]


def of_volumes(session: Session) -> list[str]:
    """What `down --volumes` stops and deletes."""
    from volery.cli.commands.volumes import of_session

    volumes = of_session(session).all_live()
    return of_everything(session) + [f"{item.name}: {item.size()} bytes" for item in volumes]


def of_removed(session: Session) -> list[str]:
    """Services with state that run and that the manifest does not have any more."""
    return [
        f"{name}: {_ready(service)} stop, its volumes are kept{_reached(service)}"
        for name, service in _services(session).items()
        if service["stateful"] and name not in session.application.services
    ]


def confirm_restart(session: Session, service: str) -> None:
    """In production, restarting a service with state is asked for twice.

    Raises:
        VoleryError: REFUSED.
    """
    found = _of(session, service)
    if found and found["stateful"]:
        line = f"{service}: {_ready(found)} restart one after the other{_reached(found)}"
        session.confirm_in_production(f"restart {service}", lambda: [line])


def confirm_scale(session: Session, service: str, instances: int) -> bool:
    """In production, taking a service below its floor is asked for twice. Whether somebody has said
    yes to that.

    Raises:
        VoleryError: REFUSED.
    """
    found = _of(session, service)
    if found and instances < min(found["desired"], max(1, found["floor"])):
        line = f"{service}: {_ready(found)} become {instances}{_reached(found)}"
        session.confirm_in_production(f"scale {service} to {instances}", lambda: [line])
        return True
    return session.yes


def _of(session: Session, service: str) -> Any:
    if not session.is_production or session.yes:
        return None
    return _services(session).get(service)


def _services(session: Session) -> dict[str, Any]:
    from volery.api.launch import is_running

    if not is_running(session.home):
        return {}
    found: dict[str, Any] = session.client.get("/v1/status")["services"]
    return found


def _ready(service: dict[str, Any]) -> str:
    count = sum(item["state"] == "ready" for item in service["instances"])
    return f"{count} ready instance{'' if count == 1 else 's'}"


def _reached(service: dict[str, Any]) -> str:
    return f"; users reach it at {service['url']}" if service["url"] else ""
