"""What may be sent to the API: typed and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from volery.control.operations import Request
from volery.manifest.load import FILE_NAME
from volery.manifest.mistake import dotted
from volery.manifest.references import problems
from volery.model.application import Application
from volery.model.errors import Code, VoleryError
from volery.model.fields import Name
from volery.model.form import Model

Short = Annotated[str, Field(max_length=200)]
Given = Annotated[str, Field(min_length=1, max_length=200)]
"""A name to look for; "" would be the beginning of every one."""


class ApplyBody(Model):
    """A manifest, and what to do with it."""

    application: Application
    environment: Name
    root: Annotated[str, Field(max_length=4096)]
    """Folder of the manifest on this machine."""
    manifest: Annotated[str, Field(min_length=1, max_length=255)] = FILE_NAME
    """Name of its file there."""
    base_env: dict[str, Annotated[str, Field(max_length=65536)]] = Field(default_factory=dict)
    by: Short = ""
    services: tuple[Short, ...] | None = None
    """Only these (`deploy`); none for all (`up`)."""
    strategy: Annotated[str, Field(pattern="^(canary|blue-green|rolling|recreate)$")] | None = None
    skip_tests: bool = False
    release: Given | None = None
    force: bool = False
    """Also a release that was refused before."""

    def request(self) -> Request:
        """The same as the control plane's own type.

        Raises:
            VoleryError: INVALID, the manifest contradicts itself or has no such environment.
        """
        application = self.application
        for wrong in problems(application, application.services):
            raise VoleryError(
                wrong.said(), code=Code.INVALID, hint="volery check", where=dotted(wrong.path)
            )
        if self.environment not in application.environments:
            raise VoleryError(
                f"no environment {self.environment!r} in the manifest",
                code=Code.INVALID,
                hint=f"known: {', '.join(application.environments)}",
                where="environment",
            )
        return Request(
            application=application.in_environment(self.environment),
            environment=self.environment,
            root=Path(self.root),
            manifest=self.manifest,
            base_env=self.base_env,
            by=self.by,
            only=self.services,
            strategy=self.strategy,
            skip_tests=self.skip_tests,
            release=self.release,
            force=self.force,
        )


class ByBody(Model):
    """Who asks."""

    by: Short = ""


class PromoteBody(ByBody):
    """How far."""

    full: bool = False
    """Not only the present step but all that are left."""


class RollbackBody(ByBody):
    """Where to go back to; the previous release if not said."""

    to: Given | None = None


class ScaleBody(ByBody):
    """How many instances."""

    instances: Annotated[int, Field(ge=0)]
    force: bool = False
    """Also fewer than its floor."""


class SwitchoverBody(ByBody):
    """Which replica becomes the primary; the most advanced one if not said."""

    to: Given | None = None
