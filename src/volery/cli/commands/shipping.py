"""check -> plan -> up -> deploy -> down: the main job."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from volery.cli.session import Given, Session, seconds
from volery.model.errors import VoleryError
from volery.model.units import format_duration

if TYPE_CHECKING:
    from volery.api.client import Client

HEALTHY_SECONDS = 60.0


def plan(*services: str, session: Given) -> int:
    """Show what `up` (or `deploy SERVICE...`) would change, in what order, and whom it touches.

    Args:
        services: Only these, as `deploy` would.
    """
    from volery.cli.show.tables import show_plan

    body = session.apply_body(services or None)
    planned = _planned(session, body)
    lacking = _unset_secrets(session, services)
    if session.json:
        session.emit(planned | {"warnings": lacking})
    else:
        show_plan(planned)
        for said in lacking:
            print(f"warning: {said}")
    return 0


def _unset_secrets(session: Session, services: tuple[str, ...]) -> list[str]:
    """What `up` or `deploy` would be refused for."""
    from volery.manifest.lint import unset_secrets

    application = session.application.in_environment(session.environment)
    found = unset_secrets(application, session.secrets_set())
    return [
        f"{item.path}: {item.message}" for item in found if not services or item.at[1] in services
    ]


def _planned(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    from volery.api.launch import is_running

    if is_running(session.home):
        return session.client.post("/v1/plan", body)
    from volery.api.offline import offline_plan

    return offline_plan(body, session.home)


def up(
    *,
    detach: bool = False,
    skip_tests: bool = False,
    timeout: str | None = None,
    session: Given,
) -> int:
    """Bring the environment to what the manifest says: build, test, start, wait until healthy.

    Starts the control plane and the gateway if needed. Running it again changes nothing that is
    already so. Ctrl-C leaves everything running.

    Args:
        detach: Return as soon as it is begun.
        skip_tests: Do not run the services' tests.
        timeout: Give up waiting after this long (it goes on).
    """
    from volery.api.launch import ensure_control_plane, stop_control_plane

    began, limit = time.monotonic(), seconds("--timeout", timeout)
    body = session.apply_body() | {"skip_tests": skip_tests}
    started = ensure_control_plane(session.home)
    try:
        accepted = session.apply(body)
    except VoleryError:
        if started and session.client.get("/v1/gone")["gone"]:
            stop_control_plane(session.home)  # refused before anything began: leave nothing behind
        raise
    if detach:
        return _detached(session, accepted)
    rollouts = _follow(session, accepted, limit)
    code = _code(rollouts)
    if code == 0:
        _until_healthy(session.client)
        code = _still_refused(accepted["plan"])
    _show_up(session, time.monotonic() - began, code)
    return code


def _still_refused(plan: list[dict[str, Any]]) -> int:
    """3 if what the manifest asks for was refused before, so that older releases go on serving."""
    refused = [step for step in plan if step["refused"]]
    for step in refused:
        print(f"{step['because']}; {step['release']} serves", file=sys.stderr)
        print(f"hint: change it, or: volery deploy {step['service']} --force", file=sys.stderr)
    return 3 if refused else 0


def _follow(session: Session, accepted: dict[str, Any], limit: float | None) -> list[Any]:
    from volery.cli.follow import follow

    return follow(session.client, accepted["rollouts"], limit)


def _code(rollouts: list[Any]) -> int:
    from volery.cli.follow import exit_code

    return exit_code(rollouts)


def _begun(session: Session, accepted: dict[str, Any]) -> list[Any]:
    """The rollouts as they are now."""
    found = session.client.get("/v1/rollouts", ids=",".join(accepted["rollouts"]))["rollouts"]
    return [item for item in found if item["id"] in accepted["rollouts"]]


def _detached(session: Session, accepted: dict[str, Any]) -> int:
    if session.json:
        session.emit({"plan": accepted["plan"], "rollouts": _begun(session, accepted)})
    else:
        print("begun; follow it with: volery status --watch")
    return 0


def _until_healthy(client: Client) -> None:
    """Rollouts are done; wait for services that were already there and for the gateway."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        status = client.get("/v1/status")
        waiting = [
            name
            for name, service in status["services"].items()
            if service["state"] not in ("healthy", "deploying")
        ]
        if status["gateway"]["state"] != "ready":
            waiting.append("gateway")
        if not waiting:
            return
        if time.monotonic() > deadline:
            limit = format_duration(HEALTHY_SECONDS)
            raise VoleryError(
                f"not healthy after {limit}: {', '.join(waiting)}", hint="volery status"
            )
        time.sleep(0.1)


def _show_up(session: Session, took: float, code: int) -> None:
    status = session.client.get("/v1/status")
    if session.json:
        session.emit(status)
        return
    from volery.cli.show.tables import show_status

    show_status(status)
    print()
    if code == 0:
        print(f"up in {format_duration(took)}: {status['gateway']['url']}")
        print("next: volery deploy SERVICE, volery status --watch, volery logs SERVICE -f")
    else:
        print("not everything came up; fix it and run: volery up", file=sys.stderr)


def deploy(
    *services: str,
    detach: bool = False,
    strategy: Literal["canary", "rolling", "blue-green", "recreate"] | None = None,
    release: str | None = None,
    skip_tests: bool = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    timeout: str | None = None,
    session: Given,
) -> int:
    """Build, test and roll out new releases; several services are one group, aborted together.

    A release that fails its build, its tests or its health never gets a request; one whose users
    get worse than before is taken back by itself (exit code 3).

    Args:
        services: Which services.
        detach: Return as soon as it is begun.
        strategy: Another strategy than the manifest's.
        release: An existing release instead of the present source.
        skip_tests: Do not run the services' tests.
        force: Also a release that was refused before.
        timeout: Give up waiting after this long (it goes on).
    """
    if not services:
        from volery.model.errors import Code

        names = ", ".join(session.application.services)
        raise VoleryError("which services?", code=Code.INVALID, hint=f"known: {names}")
    limit = seconds("--timeout", timeout)
    body = session.apply_body(services) | {
        "strategy": strategy,
        "release": release,
        "skip_tests": skip_tests,
        "force": force,
    }
    accepted = session.apply(body)
    rollouts = _begun(session, accepted) if detach else _follow(session, accepted, limit)
    changing = {item["service"] for item in rollouts}
    unchanged = [step["service"] for step in accepted["plan"] if step["service"] not in changing]
    if session.json:
        _emit_deploy(session, rollouts, unchanged)
    else:
        _show_deploy(session, rollouts, unchanged, detach)
    return 0 if detach else _code(rollouts)


def _emit_deploy(session: Session, rollouts: list[Any], unchanged: list[str]) -> None:
    path = "/v1/services/{}/rollout"
    same = [session.client.get(path.format(name), live="true") for name in unchanged]
    found = rollouts + [item | {"changed": False} for item in same]
    session.emit(found[0] if len(found) == 1 else {"rollouts": found})


def _show_deploy(
    session: Session, rollouts: list[Any], unchanged: list[str], detached: bool
) -> None:
    for name in unchanged:
        print(f"{name} is unchanged")
    if detached:
        for item in rollouts:
            print(
                f"{item['id']} is begun; follow it with: volery rollout {item['service']} --watch"
            )
        return
    latest = {item["service"]: item for item in rollouts}
    for item in latest.values():
        spent = format_duration(sum(item["seconds"].values()))
        if item["phase"] == "done":
            print(f"{item['to']} serves (took {spent})")
        elif item["phase"] == "rolled_back":
            print(f"{item['to']} {_what_became(session, item)}; {item['from']} serves")


def _what_became(session: Session, rollout: dict[str, Any]) -> str:
    """Of a release that does not serve: the word that `releases` has for it."""
    found = session.client.get(f"/v1/services/{rollout['service']}/releases")["releases"]
    state = next((item["state"] for item in found if item["release"] == rollout["to"]), "")
    words = {"failed": "could not be built", "refused": "was refused"}
    return words.get(state, "was taken back")


def down(
    *,
    volumes: Annotated[bool, Parameter(negative=())] = False,
    session: Given,
) -> int:
    """Stop everything of this environment, callers before what they call; volumes are kept.

    Args:
        volumes: Delete the volumes too.
    """
    from volery.api.launch import ensure_control_plane, is_in_use, stop_control_plane

    if volumes:
        place = f"environment {session.home.path.name} of {session.home.path.parent.name}"
        session.confirm(f"delete all volumes of {place}")
    running = is_in_use(session.home)
    if running:
        ensure_control_plane(session.home)
        session.client.post("/v1/down", {"by": session.by})
        _until_gone(session)
        stop_control_plane(session.home)
    deleted = volumes and _delete(session.home.volumes)
    if session.json:
        session.emit({"down": True, "volumes_deleted": volumes})
    else:
        said = "everything is stopped" if running else "nothing was running"
        print(f"{said}; {_volumes_said(deleted)}" if volumes else said)
    return 0


def _volumes_said(deleted: bool) -> str:
    return "its volumes are deleted" if deleted else "there were no volumes"


def _delete(folder: Path) -> bool:
    """Whether there was something to delete."""
    import shutil

    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise VoleryError(
            f"cannot delete {folder}: {error.strerror}",
            hint=f"rm -r {folder}, as the user who owns what is in it",
        ) from None
    return True


def _until_gone(session: Session) -> None:
    shown: list[str] = []
    while True:
        found = session.client.get("/v1/gone")
        if found["gone"]:
            return
        if found["instances"] != shown and not session.json:
            shown = found["instances"]
            print(f"stopping {', '.join(shown)}", file=sys.stderr)
        time.sleep(0.1)
