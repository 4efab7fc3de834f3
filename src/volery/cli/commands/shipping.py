"""check -> plan -> up -> deploy -> down: the main job."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from volery.cli.commands.volumes import delete_all
from volery.cli.session import Given, Session, seconds
from volery.model.errors import EXIT, Code, VoleryError
from volery.model.units import format_duration

if TYPE_CHECKING:
    from volery.cli.outcome import Outcome


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
    force: Annotated[bool, Parameter(negative=())] = False,
    timeout: str | None = None,
    session: Given,
) -> int:
    """Bring the environment to what the manifest says: build, test, start, wait until healthy.

    Starts the control plane and the gateway if needed. Running it again changes nothing that is
    already so. Ctrl-C leaves everything running.

    Args:
        detach: Return as soon as it is begun.
        skip_tests: Do not run the services' tests.
        force: Also releases that were refused before.
        timeout: Give up waiting after this long (it goes on).
    """
    from volery.api.launch import ensure_control_plane, stop_control_plane

    began, limit = time.monotonic(), seconds("--timeout", timeout)
    body = session.apply_body() | {"skip_tests": skip_tests, "force": force}
    _confirm_removals(session)
    started = ensure_control_plane(session.home)
    try:
        accepted = session.apply(body)
    except VoleryError:
        if started and session.client.get("/v1/gone")["gone"]:
            stop_control_plane(session.home)  # refused before anything began: leave nothing behind
        raise
    if detach:
        return _detached(session, accepted)
    from volery.cli.outcome import of_up

    ended = _follow(session, accepted, limit)
    left = None if limit is None else max(0.0, began + limit - time.monotonic())
    outcome = of_up(session.client, accepted["plan"], ended, left)
    _show_up(session, time.monotonic() - began, outcome)
    return outcome.code


def _confirm_removals(session: Session) -> None:
    """A service with state that the manifest does not have any more: its owner may not mean it."""
    from volery.cli import radius

    lines = radius.of_removed(session) if session.is_production and not session.yes else []
    if lines:
        session.confirm("remove services with state", lines)


def _follow(session: Session, accepted: dict[str, Any], limit: float | None) -> list[Any]:
    from volery.cli.follow import follow

    return follow(session.client, accepted["rollouts"], limit, attended=session.attended)


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


def _show_up(session: Session, took: float, outcome: Outcome) -> None:
    status = outcome.status
    if session.json:
        session.emit(status)
    else:
        from volery.cli.show.tables import show_status

        show_status(status)
        print(flush=True)
    for line in outcome.lines:
        print(line, file=sys.stderr)
    if not outcome.serves:
        print("not everything came up; fix it and run: volery up", file=sys.stderr)
    elif outcome.code == EXIT[Code.INCONCLUSIVE]:
        print("not everything is decided: a person has to say how it goes on", file=sys.stderr)
    elif outcome.code == 0 and not session.json:
        print(f"up in {format_duration(took)}: {status['gateway']['url']}")
        print("next: volery deploy SERVICE, volery status --watch, volery logs SERVICE -f")


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
    unchanged = {
        step["service"]: f"serves on, {step['because']}"
        if step["verb"] == "configure"
        else "is unchanged"
        for step in accepted["plan"]
        if step["service"] not in changing
    }
    if session.json:
        _emit_deploy(session, _asked_for(rollouts, accepted), list(unchanged))
    else:
        _show_deploy(session, rollouts, unchanged, detach)
    return 0 if detach else _code(rollouts)


def _asked_for(rollouts: list[Any], accepted: dict[str, Any]) -> list[Any]:
    """Of one service the rollout that was begun or joined; of several also their ways back."""
    services = {step["service"] for step in accepted["plan"]}
    return [
        item
        for item in rollouts
        if item["id"] in accepted["rollouts"] or (item["service"] in services and len(services) > 1)
    ]


def _emit_deploy(session: Session, rollouts: list[Any], unchanged: list[str]) -> None:
    path = "/v1/services/{}/rollout"
    same = [session.client.get(path.format(name), live="true") for name in unchanged]
    found = rollouts + [item | {"changed": False} for item in same]
    session.emit(found[0] if len(found) == 1 else {"rollouts": found})


def _show_deploy(
    session: Session, rollouts: list[Any], unchanged: dict[str, str], detached: bool
) -> None:
    for name, said in unchanged.items():
        print(f"{name} {said}")
    if detached:
        for item in rollouts:
            print(
                f"{item['id']} is begun; follow it with: volery rollout {item['service']} --watch"
            )
        return
    from volery.cli.outcome import what_became

    latest = {item["service"]: item for item in rollouts}
    for item in latest.values():
        spent = format_duration(sum(item["seconds"].values()))
        if item["phase"] == "done":
            print(f"{item['to']} serves (took {spent})")
        elif item["phase"] == "rolled_back":
            print(f"{item['to']} {what_became(session.client, item)}; {item['from']} serves")


def down(
    *,
    volumes: Annotated[bool, Parameter(negative=())] = False,
    session: Given,
) -> int:
    """Stop everything of this environment, callers before what they call; volumes are kept.

    Args:
        volumes: Delete the volumes too; `volery volumes restore` brings them back for a while.
    """
    from volery.api.launch import ensure_control_plane, is_in_use, stop_control_plane
    from volery.cli import radius

    if volumes:
        place = f"environment {session.home.path.name} of {session.home.path.parent.name}"
        session.confirm(f"delete all volumes of {place}", radius.of_volumes(session))
    else:
        session.confirm_in_production("stop everything", lambda: radius.of_everything(session))
    running = is_in_use(session.home)
    if running:
        ensure_control_plane(session.home)
        session.client.post("/v1/down", {"by": session.by})
        _until_gone(session)
        stop_control_plane(session.home)
    keep = _kept_for(session)
    deleted = delete_all(session, keep) if volumes else []
    if session.json:
        names = [item.exact for item in deleted]
        session.emit({"down": True, "volumes_deleted": volumes, "volumes": names})
    else:
        said = "everything is stopped" if running else "nothing was running"
        print(f"{said}; {_volumes_said(len(deleted), keep)}" if volumes else said)
    return 0


def _kept_for(session: Session) -> float:
    """How long deleted volumes can be restored; a manifest with mistakes has the default."""
    from volery.manifest.mistake import ManifestError
    from volery.model.budget import Trash

    try:
        return session.application.environments[session.environment].volumes.keep
    except ManifestError:
        return Trash().keep


def _volumes_said(count: int, keep: float) -> str:
    if not count:
        return "there were no volumes"
    if not keep:
        return "its volumes are deleted for good"
    kept = format_duration(keep)
    return f"its volumes are deleted, and can be restored for {kept}: volery volumes"


def _until_gone(session: Session) -> None:
    shown: list[str] = []
    while True:
        found = session.client.get("/v1/gone")
        if found["gone"]:
            return
        if found.get("up"):  # an older control plane does not say
            raise VoleryError(
                "not everything is stopped: volery up was asked for meanwhile",
                code=Code.CONFLICT,
                hint="volery status; volery events says by whom",
            )
        if found["instances"] != shown and not session.json:
            shown = found["instances"]
            print(f"stopping {', '.join(shown)}", file=sys.stderr)
        time.sleep(0.1)
