"""What can be known without a control plane: a plan of everything, what instances wrote, and what
the ledger remembers. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from volery.api import wire
from volery.api.bodies import ApplyBody
from volery.api.home import Home
from volery.api.logs import Logs
from volery.api.past import EventQuery, heard_of, past_events, remembered, told
from volery.api.places import LogQuery
from volery.build.builder import LocalBuilder
from volery.build.release import release_id
from volery.control.operations import Request, chosen_of
from volery.decide.plan import make_plan
from volery.decide.world import World
from volery.model.names import NAME
from volery.model.state import Release
from volery.store.secrets import Secrets
from volery.store.sqlite import SqliteStore


def offline_plan(body: dict[str, Any], home: Home) -> dict[str, Any]:
    """What `up` would do where no control plane runs: it starts from what the ledger remembers."""
    request = ApplyBody.model_validate(body).request()
    chosen_of(request)
    releases = asyncio.run(_releases(request, home))
    only = request.only
    world = World()
    if home.ledger.exists():
        with SqliteStore(home.ledger, read_only=True) as store:
            world = remembered(store)
    steps = make_plan(world, request.application, releases, only)
    return {"steps": [wire.step(item) for item in steps], "gateway": []}


def offline_logs(home: Home, service: str, query: LogQuery) -> Logs | None:
    """The logs as the files have them; None where the service has written nothing here.

    Raises:
        VoleryError: NOT_FOUND, there is no such instance; or secrets that cannot be read, and so
            could not be hidden.
    """
    if re.fullmatch(NAME, service) is None:
        return None

    def secrets() -> list[str]:
        return Secrets(home.secrets).ever() if home.secrets.exists() else []

    secrets()  # what cannot be read cannot be hidden
    logs = Logs(home.path, service, query, secrets)
    return logs if logs.check() else None


def offline_events(home: Home, query: EventQuery) -> list[dict[str, Any]] | None:
    """The events as the file has them; None where there is no ledger."""
    if not home.ledger.exists():
        return None
    with SqliteStore(home.ledger, read_only=True) as store:
        if query.service:
            heard_of(store, remembered(store), query.service)
        return [wire.event(item) for item in past_events(store, query)]


def offline_story(home: Home, service: str, since: float | None, limit: int) -> wire.Json | None:
    """The story of a service as the file has it; None where there is no ledger."""
    if not home.ledger.exists():
        return None
    with SqliteStore(home.ledger, read_only=True) as store:
        return told(store, heard_of(store, remembered(store), service), since, limit)


def offline_releases(home: Home, service: str) -> dict[str, Any] | None:
    """The releases of a service as the file has them; None where there is no ledger.

    Raises:
        VoleryError: NOT_FOUND, there is no such service.
    """
    if not home.ledger.exists():
        return None
    with SqliteStore(home.ledger, read_only=True) as store:
        world = remembered(store)
        return wire.releases(world, heard_of(store, world, service))


def users_of_secret(home: Home, secret: str) -> list[str]:
    """The services whose live release runs with a secret."""
    if not home.ledger.exists():
        return []
    with SqliteStore(home.ledger, read_only=True) as store:
        world = remembered(store)
    if world.environment is None or not world.environment.running:
        return []
    live = {name: state.live for name, state in world.services.items()}
    return sorted(
        name
        for name, slot in live.items()
        if slot and slot.count and secret in world.releases[slot.release].spec.secrets
    )


async def _releases(request: Request, home: Home) -> dict[str, Release]:
    builder = LocalBuilder(
        home.path, lambda: None, base_env=lambda _: {}, without=home.never_source
    )
    secrets = Secrets(home.secrets) if home.secrets.exists() else None
    found = {}
    for name, service in request.application.services.items():
        digest = await builder.digest(name, service, request.root, request.files)
        versions = secrets.versions(service.secrets) if secrets else {}
        identity = release_id(name, digest, service, versions)
        found[name] = Release(identity, name, digest, service, created_at=0.0)
    return found
