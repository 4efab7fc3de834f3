"""What became of the releases that were wanted, and what serves in their place: the words at the
end of `up` and `deploy`, and the exit code that goes with them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from volery.api.client import Client
from volery.cli.follow import exit_code
from volery.model.errors import Code, VoleryError
from volery.model.units import format_duration

Json = dict[str, Any]
HEALTHY_SECONDS = 60.0
QUIET_SECONDS = 2.0
"""What is over sooner is not worth a word."""
FAILED_STARTS = 3
"""What did not start so often in a row is not waited for."""
LOOK_EVERY_SECONDS = 0.1
BAD = ("rolled_back", "failed", "paused")


@dataclass(frozen=True)
class Outcome:
    """How an `up` ended. `lines` are about services that do not run what the manifest asks for."""

    code: int
    status: Json
    lines: tuple[str, ...]
    serves: bool
    """Whether each of these has something that serves all the same."""


def of_up(
    client: Client, plan: Sequence[Json], rollouts: Sequence[Json], patience: float | None
) -> Outcome:
    """Wait until what should serve does, and say what that is.

    Args:
        patience: Seconds that somebody wants to wait at most; None for as long as makes sense.

    Raises:
        VoleryError: all rollouts are done, and something is not healthy all the same: FAILED, or
            INCONCLUSIVE after no more than the `patience` of somebody.
    """
    code = exit_code(rollouts)
    bad = {item["service"]: item for item in rollouts if item["phase"] in BAD}
    wanted = {step["service"] for step in plan}
    status = _healthy(client, wanted, patience) if code == 0 else _back(client, bad, patience)
    services = status["services"]
    removed = [name for name in bad if name not in services]
    lines = [f"{name} was removed meanwhile" for name in removed]
    bad = {name: item for name, item in bad.items() if name in services}
    lines += [_ended(client, item, services[name]) for name, item in bad.items()]
    refused = [step for step in plan if step["refused"] and step["service"] not in bad]
    for step in refused:
        lines.append(f"{step['because']}; {step['release']} serves")
        lines.append(f"hint: change it, or: volery deploy {step['service']} --force")
    serves = all(_serves(services[name]) for name in bad)
    if code == 0 and refused:
        code = 3
    elif code == 1 and serves and not removed and not _gave_way(bad.values()):
        code = 3  # there was nothing to go back to while it was tried, and there is now
    return Outcome(code, status, tuple(lines), serves)


def _gave_way(rollouts: Iterable[Json]) -> bool:
    return any(item["superseded_by"] for item in rollouts)


def what_became(client: Client, rollout: Json) -> str:
    """Of a release that does not serve: the word that `releases` has for it."""
    found = client.get(f"/v1/services/{rollout['service']}/releases")["releases"]
    state = next((item["state"] for item in found if item["release"] == rollout["to"]), "")
    words = {"failed": "could not be built", "refused": "was refused"}
    never = "was taken back" if rollout["seconds"]["start"] else "was not started"
    return words.get(state, never)


def _ended(client: Client, rollout: Json, service: Json) -> str:
    became = "is paused" if rollout["phase"] == "paused" else what_became(client, rollout)
    serves = f"{service['release']} serves" if _serves(service) else f"{rollout['service']} is down"
    return f"{rollout['to']} {became}: {rollout['reason']}; {serves}"


def _serves(service: Json) -> bool:
    return service["release"] is not None and service["state"] != "down"


def _back(client: Client, bad: Collection[str], patience: float | None) -> Json:
    """The status when the older releases of these services, where they have one, serve again."""

    def waits(status: Json) -> list[str]:
        services = status["services"]
        found = {name: services[name] for name in bad if name in services}
        return [
            name
            for name, service in found.items()
            if service["release"] is not None
            and not _serves(service)
            and service["start_failures"] < FAILED_STARTS
        ]

    limit = HEALTHY_SECONDS if patience is None else min(patience, HEALTHY_SECONDS)
    return _waited(client, waits, limit)[0]


def _healthy(client: Client, wanted: Collection[str], patience: float | None) -> Json:
    """The status when all is healthy: services that were there before, and the gateway."""
    limit = HEALTHY_SECONDS if patience is None else patience
    status, waiting = _waited(client, lambda found: _unhealthy(found, wanted), limit)
    if not waiting:
        return status
    after = f"after {format_duration(limit)}" if patience is None else "in the time given"
    code = Code.FAILED if patience is None else Code.INCONCLUSIVE
    raise VoleryError(f"not healthy {after}: {'; '.join(waiting)}", code=code, hint="volery status")


def _unhealthy(status: Json, wanted: Collection[str]) -> list[str]:
    """Each of these services that is not healthy, and why; the gateway, if it is not there. What
    left the manifest takes its own time."""
    from volery.cli.standing import lacking

    found = []
    for name, service in status["services"].items():
        well = service["removed"] or service["state"] in ("healthy", "deploying")
        if name in wanted and not well:
            why = lacking(service)
            found.append(f"{name}: {why}" if why else name)
    return found if status["gateway"]["state"] == "ready" else [*found, "gateway"]


def _waited(
    client: Client, waits: Callable[[Json], list[str]], limit: float
) -> tuple[Json, list[str]]:
    """The status when nothing is waited for any more, or the time is over; and what still is. It is
    said what is waited for when that takes a moment."""
    began, told, told_at = time.monotonic(), "", time.monotonic()
    while True:
        status = client.get("/v1/status")
        waiting, now = waits(status), time.monotonic()
        if not waiting or now - began > limit:
            return status, waiting
        said = "; ".join(waiting)
        if said != told and now - told_at >= QUIET_SECONDS:
            print(f"waits for {said}", file=sys.stderr)
            told, told_at = said, now
        time.sleep(LOOK_EVERY_SECONDS)
