"""What can be known without a control plane: a plan of everything, and what instances wrote."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from volery.api import wire
from volery.api.bodies import ApplyBody
from volery.api.home import Home
from volery.api.logs import Logs
from volery.api.places import LogQuery
from volery.build.builder import LocalBuilder
from volery.build.release import release_id
from volery.control.operations import Request
from volery.decide.plan import make_plan
from volery.decide.world import World
from volery.model.fields import NAME
from volery.model.state import Release
from volery.store.secrets import Secrets


def offline_plan(body: dict[str, Any], home: Home) -> list[dict[str, Any]]:
    """What `up` would do where nothing runs."""
    request = ApplyBody.model_validate(body).request()
    releases = asyncio.run(_releases(request, home))
    only = request.only
    return [wire.step(item) for item in make_plan(World(), request.application, releases, only)]


def offline_logs(home: Home, service: str, query: LogQuery) -> Logs | None:
    """The logs as the files have them; None where the service has written nothing here.

    Raises:
        VoleryError: NOT_FOUND, there is no such instance; or secrets that cannot be read, and so
            could not be hidden.
    """
    if re.fullmatch(NAME, service) is None:
        return None
    secrets = Secrets(home.secrets).ever() if home.secrets.exists() else []
    logs = Logs(home.path, service, query, secrets)
    return logs if logs.check() else None


async def _releases(request: Request, home: Home) -> dict[str, Release]:
    builder = LocalBuilder(home.path, lambda: None, base_env=lambda: {})
    secrets = Secrets(home.secrets) if home.secrets.exists() else None
    found = {}
    for name, service in request.application.services.items():
        digest = await builder.digest(name, service, request.root)
        versions = secrets.versions(service.secrets) if secrets else {}
        identity = release_id(name, digest, service, versions)
        found[name] = Release(identity, name, digest, service, created_at=0.0)
    return found
