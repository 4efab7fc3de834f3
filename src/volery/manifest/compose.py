"""A compose file -> draft services.

Services with a `build` become services of ours. An image without one cannot be built from source
here, so it becomes a comment that says what to do. Values the caller's shell would fill in become
secrets. Fixed ports become `$PORT`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from volery.manifest.draft import (
    COMMAND_CHARACTERS_MAX,
    RUNS,
    Draft,
    DraftService,
    command,
    joined,
    printable,
    service_name,
    with_port,
)
from volery.manifest.foreign import (
    dockerfile,
    is_there,
    mapping,
    package_json,
    python_project,
    text_of,
    texts,
)
from volery.manifest.tree import data
from volery.manifest.yaml12 import compose
from volery.model.units import parse_duration

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
VALUE_CHARACTERS_MAX = 16_384
SHOWN_CHARACTERS_MAX = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(
    r"\$(?:\$|[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*(?:(:?[-+?])([^}]*))?\})"
)
_NO_VARIABLE = "a variable has a name without signs, and a text"
_PROBE_URL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::\S+?)?(/[^\s'\"|;#]*)")
_TEXT_PLACES = (("services", "*", "environment", "*"),)
_TIMES = {"interval": "every", "timeout": "timeout", "start_period": "startup"}


def compose_draft(folder: Path, draft: Draft) -> bool:
    """Takes the services of the folder's compose file, if it has one."""
    name = next((name for name in COMPOSE_FILES if is_there(folder / name)), "")
    if not name:
        return False
    root, mistakes = compose(text_of(folder / name).encode(), name)
    if root is None:
        draft.notes.append(f"{name} was left out, it cannot be read: {mistakes[0]}")
        return False
    values = mapping(data(root, (), _TEXT_PLACES))
    listed = mapping(values.get("services"))
    draft.app = service_name(str(values.get("name") or draft.app))
    names: dict[str, str] = {}
    for key, settings in listed.items():
        if _is_built(folder, key, mapping(settings), draft):
            names[key] = service_name(key, names.values())
    for key, ours in names.items():
        draft.services.append(_service(folder, ours, mapping(listed[key]), names, draft))
        draft.services[-1].origin = name
    _workers(draft)
    draft.found.append(f"{name}: {', '.join(names) or 'no service that is built from source'}")
    return True


def _workers(draft: Draft) -> None:
    """Nothing says that these listen, and nobody calls them."""
    called = {need for service in draft.services for need in service.needs}
    for service in draft.services:
        has_port = service.listens or service.exposed or "$PORT" in service.run
        if has_port or service.name in called or {"ready", "command"} & service.health.keys():
            continue
        service.health["command"] = RUNS
        said = f"{service.name} has no ports: it counts as ready as long as it runs"
        draft.guessed.append(said)


def _is_built(folder: Path, key: str, settings: dict[str, Any], draft: Draft) -> bool:
    profiles = ", ".join(texts(settings.get("profiles")))
    if profiles:
        draft.notes.append(f"{key} is left out: compose starts it only with profile {profiles}")
        return False
    if settings.get("build") is None and settings.get("extends") is not None:
        draft.notes.append(f"{key} extends another service, which is not followed: add it here")
        return False
    if settings.get("build") is None:
        draft.notes.append(
            f"{key} is an image ({settings.get('image', 'none')}), not source: run it next to "
            "Volery and give its address in env, or add a service that starts it"
        )
        return False
    source = _source(settings["build"])
    if is_there(folder / source):
        return True
    draft.notes.append(f"{key} is built from {source}, which is no folder here")
    return False


def _source(build: object) -> str:
    context = str((mapping(build) or {"context": build}).get("context") or ".")
    return context if "://" in context else posixpath.normpath(context)


def _service(
    folder: Path, name: str, settings: dict[str, Any], names: dict[str, str], draft: Draft
) -> DraftService:
    source = _source(settings["build"])
    service = DraftService(name, source=source, run=_command(settings))
    ports = [_container_port(port) for port in _list(settings.get("ports"))]
    ports = [port for port in ports if port]
    docker = str(mapping(settings["build"]).get("dockerfile") or "Dockerfile")
    dockerfile(folder / source / docker, service)
    package_json(folder / source, service)
    python_project(folder / source, service)
    service.listens = bool(ports)
    service.exposed = service.exposed or bool(_list(settings.get("expose")))
    service.run = with_port(service.run, ports)
    _environment(settings.get("environment"), service, draft)
    service.left_out += _files_and_mounts(settings)
    _health(mapping(settings.get("healthcheck")), service, ports)
    wanted = settings.get("depends_on")
    wanted = list(wanted) if isinstance(wanted, dict) else texts(wanted)
    wanted += [link.partition(":")[0] for link in texts(settings.get("links"))]
    service.needs = [names[need] for need in dict.fromkeys(wanted) if names.get(need, name) != name]
    replicas = mapping(settings.get("deploy")).get("replicas", settings.get("scale"))
    service.scale = replicas if isinstance(replicas, int) and 1 < replicas <= 1000 else 1
    if ports:
        said = f"{name} listened on {', '.join(ports)}; it must listen on $PORT now"
        draft.guessed.append(said)
    return service


def _files_and_mounts(settings: dict[str, Any]) -> Iterator[str]:
    """Where a container gets its environment and its files from, which is not so with us."""
    given = settings.get("env_file")
    files = [str(mapping(file).get("path", file)) for file in _list(given) or [given] if file]
    if files:
        instead = "write what it needs under env, or as secrets"
        yield f"env_file {', '.join(files)} is left out: {instead}"
    pairs = [_mount(mount) for mount in _list(settings.get("volumes"))]
    mounts = [f"{a}:{b}" for a, b in pairs if a[:1] in ("/", ".", "~", "$") and b]
    volumes = [f"{a}:{b}" if b else a for a, b in pairs if f"{a}:{b}" not in mounts]
    if mounts:
        yield f"mounts {', '.join(mounts)} are left out: it runs in a clean copy of its source"
    secrets = [str(mapping(item).get("source", item)) for item in _list(settings.get("secrets"))]
    if secrets:
        instead = "name them under `secrets`, they arrive as variables"
        yield f"secrets {', '.join(secrets)} (files) are left out: {instead}"
    if volumes:
        needs = "what must be kept needs `state: {volume: NAME}`"
        yield f"volumes {', '.join(volumes)} are left out: {needs}"


def _mount(value: object) -> tuple[str, str]:
    """What is mounted and where; one that has no name has only a place."""
    long = mapping(value)
    source, _, rest = str(value).partition(":")
    if not long:
        return source, rest.partition(":")[0]
    target = str(long.get("target", ""))
    return (str(long["source"]), target) if "source" in long else (target, "")


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _container_port(port: object) -> str:
    target = port.get("target") if isinstance(port, dict) else str(port).rpartition(":")[2]
    found = re.match(r"\d{1,5}", str(target))
    return found[0] if found else ""


def _command(settings: dict[str, Any]) -> str:
    parts = []
    for key in ("entrypoint", "command"):
        value = settings.get(key)
        if isinstance(value, list):
            parts.append(joined(text.replace("$$", "$") for text in texts(value)))
        elif isinstance(value, str):
            parts.append(command(value.replace("$$", "$")))
    return " ".join(filter(None, parts))


def _environment(value: object, service: DraftService, draft: Draft) -> None:
    pairs = mapping(value)
    for text in texts(value):
        key, equals, given = text.partition("=")
        pairs[key] = given if equals else None
    for key, given in pairs.items():
        text = str(given)
        strange = isinstance(given, dict | list) or len(text) > VALUE_CHARACTERS_MAX
        if key in ("PORT", "HOST"):
            continue
        why = "" if _NAME.fullmatch(key) and not strange else _NO_VARIABLE
        why = "such names are Volery's own" if key.startswith("VOLERY_") else why
        if why:
            service.left_out.append(f"environment {key} is left out: {why}")
            continue
        whole = given is None or _VARIABLE.fullmatch(text) is not None
        filled = None if given is None else _filled(text)
        if filled is None:
            service.secrets.append(key)
            said = f"{service.name}: {key} came from your shell, so it is a secret now"
            was = "" if whole else f" (it was: {printable(text)[:SHOWN_CHARACTERS_MAX]})"
            draft.guessed.append(f"{said}: volery secret set {key}{was}")
        else:
            service.env[key] = filled


def _filled(text: str) -> str | None:
    """A value as compose would give it where the shell sets nothing; None if it asks the shell."""
    for found in _VARIABLE.finditer(text):
        default = (found[1] or "").endswith("-") and "$" not in found[2]
        if found[0] != "$$" and not default:
            return None
    return _VARIABLE.sub(lambda found: "$" if found[0] == "$$" else found[2], text)


def _health(check: dict[str, Any], service: DraftService, ports: list[str]) -> None:
    test = check.get("test")
    words = texts(test)
    line = (" ".join(words[1:]) if words else str(test or ""))[:COMMAND_CHARACTERS_MAX]
    url = _PROBE_URL.search(line)
    if url:
        service.health["ready"] = url[1].rstrip("\\")
    elif line and words[:1] != ["NONE"]:
        shell = not words or words[0] == "CMD-SHELL"
        probe = command(line) if shell else joined(words[1:])
        service.health["command"] = with_port(probe, ports)
    for theirs, ours in _TIMES.items():
        try:
            if parse_duration(str(check.get(theirs))) > 0:
                service.health[ours] = str(check[theirs])
        except ValueError:
            continue
    retries = check.get("retries")
    if isinstance(retries, int) and 1 <= retries <= 100:
        service.health["failures"] = str(retries)
