"""Are the things there that the manifest names on this machine: source folders and commands?

Only what certainly fails is a problem. A bare word is looked for on the PATH that services get; a
path with a slash in the source, unless a build may still make it, and for gates and metrics beside
the manifest; a word with `$` is only known when it is run. Nothing is ever run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path as Folder

from volery.manifest.inherited import with_python
from volery.manifest.mistake import Path, quoted
from volery.manifest.references import Problem
from volery.model.application import Application, Health, Service
from volery.model.deploy import Deploy
from volery.model.placeholders import placeholders

BUILTINS = frozenset({".", "alias", "cd", "export", "set", "source", "ulimit", "umask", "unset"})
"""Words of a shell that change what comes after them in the same shell, and nothing else."""


def problems(application: Application, root: Folder) -> Iterator[Problem]:
    """Every source folder that is missing and every command that cannot be found."""
    here = any(place.engine == "local" for place in application.environments.values())
    search = with_python(os.environ.get("PATH"))
    for name, service in application.services.items():
        at: Path = ("services", name)
        folder = root / service.source
        said = _folder_problem(folder, service.source)
        if said:
            yield Problem((*at, "source"), said)
        elif here:
            for where, command, made in _commands(service):
                said = _command_problem(command[0], folder, made, _search(service, search))
                if said:
                    yield Problem((*at, *where), said)
    for at, deploy in _deploys(application) if here else ():
        for where, command in _asked(deploy):
            said = _command_problem(command[0], root, False, search, "beside the manifest")
            if said:
                yield Problem((*at, *where), said)


def _search(service: Service, search: str) -> str | None:
    return None if "PATH" in service.env else search


def _folder_problem(folder: Folder, source: str) -> str:
    try:
        if folder.is_dir():
            return ""
        found = folder.exists()
    except (OSError, ValueError) as error:
        return f"cannot be read: {quoted(source)}: {getattr(error, 'strerror', None) or error}"
    said = "is not a folder" if found else "no such folder"
    return f"{said}: {quoted(source)}"


def _commands(service: Service) -> Iterator[tuple[Path, tuple[str, ...], bool]]:
    """Each command, where it stands, and whether something may make its file before it runs."""
    built = bool(service.build)
    for index, command in enumerate(service.build):
        yield ("build", index), command, index > 0
    for index, command in enumerate(service.test):
        yield ("test", index), command, built or index > 0
    yield ("run",), service.run, built
    yield from _probes(service.health, built)
    if service.state is not None:
        for key in ("role", "switchover", "demote", "backup"):
            command = getattr(service.state, key)
            if command:
                yield ("state", key), command, built


def _deploys(application: Application) -> Iterator[tuple[Path, Deploy]]:
    for name, service in application.services.items():
        yield ("services", name, "deploy"), service.deploy
    for environment, settings in application.environments.items():
        for name, override in settings.overrides.items():
            if override.deploy is not None:
                yield ("environments", environment, "overrides", name, "deploy"), override.deploy


def _asked(deploy: Deploy) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Each command of a gate or a metric and where it stands: they run beside the manifest."""
    for index, gate in enumerate(deploy.gates):
        if gate.command:
            yield ("gates", index, "command"), gate.command
    for name, metric in deploy.metrics.items():
        if metric.command and not placeholders(metric.command[0]):
            yield ("metrics", name, "command"), metric.command


def _probes(health: Health, built: bool) -> Iterator[tuple[Path, tuple[str, ...], bool]]:
    for name, probe in (("ready", health.ready), ("live", health.live)):
        if probe is not None and probe.command:
            yield ("health", name, "command"), probe.command, built


def _command_problem(
    word: str, folder: Folder, made: bool, search: str | None, place: str = "in source"
) -> str:
    if "$" in word:
        return ""
    if word in BUILTINS:
        said = f"{quoted(word)} is a word of the shell and lasts as long as it"
        return f"{said}; write both commands as one: {word} ... && ..."
    if "/" in word:
        fine = made and not word.startswith("/")
        return "" if fine else _file_problem(word, folder / word, place)
    if search is None or shutil.which(word, path=search):
        return ""
    if _is_file(folder / word):
        return f"command {quoted(word)} is not on PATH; write ./{word} to run the file {place}"
    return f"command {quoted(word)} is not on PATH; install it, or give its path {place}"


def _is_file(path: Folder) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _file_problem(word: str, path: Folder, place: str) -> str:
    if not _is_file(path):
        unbuilt = ", and no `build` makes it" if place == "in source" else ""
        where = "" if word.startswith("/") else f" {place}{unbuilt}"
        return f"no such file: {quoted(word)}{where}"
    if not os.access(path, os.X_OK):
        return f"{quoted(word)} is not executable; chmod +x {word}"
    return ""
