"""What every command may need: manifest, home of the environment, control plane, output."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from volery.model.errors import Code, VoleryError

if TYPE_CHECKING:
    from volery.api.client import Client
    from volery.api.home import Home
    from volery.manifest.names import Names
    from volery.model.application import Application


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

    @property
    def attended(self) -> bool:
        """Whether somebody sees what comes out, and could act on it."""
        return not self.json and sys.stdout.isatty()

    @cached_property
    def path(self) -> Path:
        """The manifest."""
        from volery.manifest.load import find

        try:
            path = find(Path.cwd()) if self.file is None else self.file
            folder = os.fsencode(path.absolute().parent)
        except FileNotFoundError:
            raise VoleryError(
                "the current folder is gone",
                code=Code.INVALID,
                hint="cd to the folder of the manifest, or say --file",
            ) from None
        text = folder.decode("utf-8", "backslashreplace")
        if text.encode() != folder:
            raise VoleryError(
                f"{text} has a name that is no UTF-8", code=Code.INVALID, hint="rename the folder"
            )
        return path

    @cached_property
    def application(self) -> Application:
        """The manifest, read and validated."""
        from volery.manifest.read import read

        return read(self.path)

    @cached_property
    def _names(self) -> Names:
        """Application and environments, without reading the rest where nobody has yet."""
        from volery.manifest.names import Names, names

        found = names(self.path) if "application" not in self.__dict__ else None
        return found or Names(self.application.app, tuple(self.application.environments))

    @cached_property
    def environment(self) -> str:
        """The environment's name."""
        known = self._names.environments
        name = self.env or os.environ.get("VOLERY_ENV") or known[0]
        if name not in known:
            raise VoleryError(
                f"no environment {name!r} in {self.path}",
                code=Code.INVALID,
                hint=f"known: {', '.join(known)}",
            )
        return name

    @cached_property
    def home(self) -> Home:
        """Where the environment's state lives.

        Raises:
            VoleryError: REFUSED, another user's is there.
        """
        from volery.api.home import Home

        home = Home.of(self._names.app, self.environment)
        home.require_access()
        return home

    @cached_property
    def client(self) -> Client:
        """The way to a control plane that must be there, or be coming back."""
        from volery.api.client import Client

        return Client(self.home.socket, patient=_is_supervised(self.home))

    def apply_body(self, services: tuple[str, ...] | None = None) -> dict[str, Any]:
        """The body that tells the control plane the manifest and where it is."""
        from volery.manifest.inherited import INHERITED

        base = {key: os.environ[key] for key in INHERITED if key in os.environ}
        return {
            "application": self.application.model_dump(mode="json", exclude_unset=True),
            "environment": self.environment,
            "root": str(self.path.absolute().parent),
            "manifest": self.path.name,
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
        """Print one JSON document on stdout, at once: another one may be long in coming."""
        import json

        print(json.dumps(document, indent=2 if sys.stdout.isatty() else None), flush=True)

    @cached_property
    def is_production(self) -> bool:
        """Whether commands that destroy something in this environment ask first."""
        from volery.manifest.mistake import ManifestError

        try:
            return self.application.is_production(self.environment)
        except ManifestError:
            return _looks_like_production(self.path, self.environment)

    def confirm(self, question: str, radius: Sequence[str] = ()) -> None:
        """Ask a person, saying what would be hit; without a terminal `--yes` must have been said.
        In production the name of the environment has to be typed.

        Raises:
            VoleryError: REFUSED.
        """
        if self.yes:
            return
        for line in radius:
            print(f"  {line}", file=sys.stderr)
        place = f" in {self.environment}" if self.is_production else ""
        if not sys.stdin.isatty():
            raise VoleryError(f"{question}{place} needs --yes", code=Code.REFUSED, hint="add --yes")
        name = self.environment
        wanted, how = ((name,), f"type {name} to go on:") if place else (("y", "yes"), "[y/N]")
        print(f"{question}{place} {how} ", end="", file=sys.stderr, flush=True)
        try:
            answer = sys.stdin.readline()
        except KeyboardInterrupt:
            raise KeyboardInterrupt("nothing was changed") from None
        if answer.strip().lower() not in wanted:
            hint = f"type {name}, or add --yes" if place else "answer y, or add --yes"
            raise VoleryError("not confirmed", code=Code.REFUSED, hint=hint)

    def confirm_in_production(self, question: str, radius: Callable[[], Sequence[str]]) -> None:
        """Ask only in an environment that looks like production.

        Raises:
            VoleryError: REFUSED.
        """
        if self.is_production and not self.yes:
            self.confirm(question, radius())


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


def _looks_like_production(manifest: Path, environment: str) -> bool:
    """By its name, or by what a manifest with mistakes says; one that is no YAML may say it is."""
    import yaml

    from volery.model.application import PRODUCTION

    try:
        said = yaml.safe_load(manifest.read_text())["environments"][environment]["production"]
    except yaml.YAMLError:
        return True
    except (OSError, ValueError, TypeError, KeyError):
        said = None
    return environment in PRODUCTION if said is None else said is not False


def _is_supervised(home: Home) -> bool:
    from volery.api.launch import is_supervised

    return is_supervised(home)


Given = Annotated[Session, Parameter(parse=False)]
