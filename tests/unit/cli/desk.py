"""A person at the command line of a simulated environment: no processes, no waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from starlette.testclient import TestClient
from unit.api.plane import APP, SimPlane

from volery.api.app import create_app
from volery.api.client import Client, Json, checked, events_of
from volery.cli.session import Session
from volery.model.application import Application

LOOK_SECONDS = 0.3


class DeskClient(Client):
    """Speaks to a simulated control plane, whose time goes on a little at every look."""

    def __init__(self, plane: SimPlane) -> None:
        super().__init__(Path("/nowhere/api.sock"))
        self.plane = plane
        self._api = TestClient(create_app(plane))

    def get(self, path: str, **query: object) -> Json:
        """Time goes on, then GET."""
        self.plane.run(LOOK_SECONDS)
        return checked(self._api.get(path, params=_given(query)))

    def post(self, path: str, body: Json | None = None, *, timeout: float = 600.0) -> Json:
        """POST at once."""
        return checked(self._api.post(path, json=body or {}))

    def stream(self, path: str, **query: object) -> Iterator[Json]:
        """The events of a stream, until the plane ends it."""
        self.plane.stopping.clear()
        with self._api.stream("GET", path, params=_given(query)) as response:
            if response.is_error:
                response.read()
                checked(response)
            yield from events_of(response.iter_lines())


def _given(query: dict[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in query.items() if value is not None}


class Desk:
    """What a test needs to type commands and to change what they act on."""

    def __init__(self) -> None:
        self.plane = SimPlane()
        self.client = DeskClient(self.plane)
        self.manifest: dict[str, Any] = APP

    def session(self, output: Literal["text", "json"] = "text") -> Session:
        """The global options, and a control plane that is there."""
        session = Session("dev", Path("/app/volery.yaml"), output, yes=False)
        session.application = Application.model_validate(self.manifest)
        session.client = self.client
        return session

    def up(self, version: str = "aaaaaaaa") -> None:
        """Everything runs."""
        self.plane.sources.version = version
        self.client.post("/v1/apply", self.session().apply_body())
        self.plane.run()
