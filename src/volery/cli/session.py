"""What every command may need: manifest, home of the environment, control plane, output."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from volery.model.errors import Code, VoleryError

if TYPE_CHECKING:
    from volery.api.client import Client
    from volery.api.home import Home
    from volery.model.application import Application

INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


@dataclass
class Session:
    """The global options, and what follows from them, made when first asked for."""

    env: str | None
    file: Path | None
    output: Literal["text", "json"]
    yes: bool

    @property
    def json(self) -> bool:
        """Whether a script reads the output."""
        return self.output == "json"

    @cached_property
    def path(self) -> Path:
        """The manifest."""
        from volery.manifest.read import find

        return self.file if self.file is not None else find(Path.cwd())

    @cached_property
    def application(self) -> Application:
        """The manifest, read and validated."""
        from volery.manifest.read import read

        return read(self.path)

    @cached_property
    def environment(self) -> str:
        """The environment's name."""
        known = self.application.environments
        name = self.env or os.environ.get("VOLERY_ENV") or self.application.default_environment
        if name not in known:
            raise VoleryError(
                f"no environment {name!r} in {self.path}",
                code=Code.INVALID,
                hint=f"known: {', '.join(known)}",
            )
        return name

    @cached_property
    def home(self) -> Home:
        """Where the environment's state lives."""
        from volery.api.home import Home

        return Home.of(*self._place)

    @property
    def _place(self) -> tuple[str, str]:
        """Application and environment. A manifest that is broken today must not keep anybody from
        looking at, or going back to, what runs: its names are enough for that."""
        from volery.manifest.mistake import ManifestError

        try:
            return self.application.app, self.environment
        except ManifestError:
            found = _names(self.path)
            if found is None:
                raise
            print(f"warning: {self.path} has mistakes (volery check)", file=sys.stderr)
            app, environments = found
            return app, self.env or os.environ.get("VOLERY_ENV") or environments[0]

    @cached_property
    def client(self) -> Client:
        """The way to a control plane that must be there, or be coming back."""
        from volery.api.client import Client

        return Client(self.home.socket, patient=_is_supervised(self.home))

    def apply_body(self, services: tuple[str, ...] | None = None) -> dict[str, Any]:
        """The body that tells the control plane the manifest and where it is."""
        base = {key: os.environ[key] for key in INHERITED if key in os.environ}
        return {
            "application": self.application.model_dump(mode="json"),
            "environment": self.environment,
            "root": str(self.path.absolute().parent),
            "base_env": base,
            "by": self.by,
            "services": services,
        }

    def located(self, error: VoleryError) -> VoleryError:
        """The error with file, line and column, where it is about a part of the manifest."""
        from volery.manifest.read import places
        from volery.model.application import Application

        at = tuple(error.where.split("."))
        if at[0] not in Application.model_fields:
            return error
        mark = places(self.path)(at)
        where = f"{mark.file}:{mark.line}:{mark.column}: {error.where}"
        return VoleryError(error.message, code=error.code, hint=error.hint, where=where)

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """What `up` or `deploy` began.

        Raises:
            VoleryError: refused; with the place in the manifest where it is about one.
        """
        try:
            return self.client.post("/v1/apply", body)
        except VoleryError as error:
            raise self.located(error) from None

    def secrets_set(self) -> set[str]:
        """The names of the secrets that are set; none where the environment has no home yet."""
        from volery.store.secrets import Secrets

        if not self.home.secrets.exists():
            return set()
        return {item.name for item in Secrets(self.home.secrets).names()}

    @property
    def by(self) -> str:
        """Who asks."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return str(os.getuid())

    def emit(self, document: object) -> None:
        """Print one JSON document on stdout."""
        import json

        print(json.dumps(document, indent=2 if sys.stdout.isatty() else None))

    def confirm(self, question: str) -> None:
        """Ask a person; without a terminal `--yes` must have been said.

        Raises:
            VoleryError: REFUSED.
        """
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise VoleryError(f"{question} needs --yes", code=Code.REFUSED, hint="add --yes")
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise VoleryError("not confirmed", code=Code.REFUSED, hint="answer y, or add --yes")


def seconds(option: str, text: str | None) -> float | None:
    """The value of an option that is a duration.

    Raises:
        VoleryError: INVALID, it is none.
    """
    from volery.model.units import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise VoleryError(f"{option} {error}", code=Code.INVALID, hint=f"{option} 10m") from None


def _names(manifest: Path) -> tuple[str, list[str]] | None:
    """Application and environments as far as a broken manifest tells; None if it does not."""
    import yaml

    try:
        found = yaml.safe_load(manifest.read_text())
        app, environments = found["app"], list(found.get("environments") or {"dev": None})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return None
    named = [app, *environments]
    return (app, environments) if all(_is_name(name) for name in named) else None


def _is_name(name: object) -> bool:
    import re

    from volery.model.fields import NAME

    return isinstance(name, str) and re.match(NAME, name) is not None


def _is_supervised(home: Home) -> bool:
    from volery.api.launch import is_supervised

    return is_supervised(home)


Given = Annotated[Session, Parameter(parse=False)]
