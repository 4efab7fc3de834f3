"""A first manifest from what a folder holds: compose file, Procfile, Dockerfile, package.json,
pyproject.toml, in the folder itself and one level below.

Guesses are named as such, so that a person can look at them; the result is minimal, commented, and
passes `read` wherever its commands exist. Nothing is executed, nothing is overwritten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from volery.manifest.compose import compose_draft
from volery.manifest.draft import RUNS, Draft, DraftService, comment, service_name, yaml_text
from volery.manifest.foreign import (
    dockerfile,
    in_venv,
    is_there,
    package_json,
    procfile,
    python_project,
)
from volery.manifest.schema import json_schema
from volery.model.errors import Code, VoleryError

__all__ = ["SCHEMA_FILE", "Draft", "detect", "render", "seen_from", "write"]

SCHEMA_FILE = ".volery/schema.json"
FOLDERS_MAX = 200
_SKIPPED = frozenset(
    {"node_modules", "vendor", "dist", "build", "target", "test", "tests", "docs", "examples"}
)
_EXAMPLE = """\
    # More that can be said about a service (`volery schema` has everything):
    # scale: 2                        # instances
    # needs: {other: {timeout: 1s}}   # its address arrives as $OTHER_URL
    # health: {ready: /healthz}       # without it: ready when the port accepts connections
    # env: {LOG_LEVEL: info}
    # secrets: [API_KEY]              # volery secret set API_KEY
    # deploy: {strategy: blue-green}  # rolling | blue-green | canary | recreate
"""


def detect(folder: Path) -> Draft:
    """What the folder seems to hold.

    Raises:
        VoleryError: INVALID, it is none that can be read.
    """
    try:
        below = list(_below(folder))
    except OSError as error:
        raise VoleryError(
            f"cannot look into {folder}: {error.strerror}",
            code=Code.INVALID,
            hint="volery init FOLDER, with one that is there and may be read",
        ) from None
    draft = Draft(service_name(folder.resolve().name))
    if not compose_draft(folder, draft) or not draft.services:
        _folder(folder, ".", draft)
        for name in below:
            _folder(folder / name, name, draft)
    else:
        _left_out(folder, draft)
    for service in [service for service in draft.services if not service.run]:
        draft.services.remove(service)
        draft.notes.append(f"{service.name}: no command found that starts it; add it with `run:`")
        for other in draft.services:
            other.needs = [need for need in other.needs if need != service.name]
    for service in draft.services:
        _leave_to_volery(service, draft)
        draft.notes += [f"{service.name}: {said}" for said in _not_taken_over(service)]
    if not draft.services:
        draft.services.append(_placeholder())
        draft.guessed.append("nothing was recognised: `web` serves this folder; change its `run`")
    return draft


def seen_from(draft: Draft, folder: Path, manifest: Path) -> Draft:
    """The draft of a folder with sources as a manifest elsewhere has to name them."""
    for service in draft.services:
        service.source = Path(os.path.relpath(folder / service.source, manifest.parent)).as_posix()
    return draft


def _left_out(folder: Path, draft: Draft) -> None:
    """Where a compose file says what runs, a Procfile next to it would say it a second time."""
    services = {service.name: service.run for service in draft.services}
    for source in dict.fromkeys([".", *(service.source for service in draft.services)]):
        processes = procfile(folder / source)
        if not processes:
            continue
        other = [
            f"{name}: {line}"
            for name, line in processes.items()
            if line not in services.values() and name not in services
        ]
        prefix = "" if source == "." else f"{source}/"
        said = f"{prefix}Procfile is left out, {draft.services[0].origin} says what runs"
        more = f"; not taken over: {', '.join(other)}" if other else ""
        draft.notes.append(said + more)


def _leave_to_volery(service: DraftService, draft: Draft) -> None:
    """The addresses of needs are set by Volery; the file's own fixed ones would be wrong."""
    given = {f"{need.upper().replace('-', '_')}_URL" for need in service.needs}
    for variable in sorted(given & {*service.env, *service.secrets}):
        service.env.pop(variable, None)
        service.secrets = [secret for secret in service.secrets if secret != variable]
        draft.guessed.append(f"{service.name}: {variable} is left out, Volery sets it")


def _not_taken_over(service: DraftService) -> Iterator[str]:
    """What other files said of a service, and its owner has to say again in another way."""
    yield from service.left_out
    given = {*service.env, *service.secrets}
    lost = [name for name in dict.fromkeys(service.image_env) if name not in given]
    if lost:
        said = f"ENV {', '.join(lost)} of Dockerfile is left out"
        yield f"{said}: write what it needs under env"


def _placeholder() -> DraftService:
    run = "python -m http.server $PORT --bind $HOST"
    return DraftService("web", origin="an example", run=run, listens=True)


def _below(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    kept = (name for name in names if not name.startswith(".") and name not in _SKIPPED)
    for _, name in zip(range(FOLDERS_MAX), kept, strict=False):
        if name.isprintable():
            yield name


def _folder(folder: Path, source: str, draft: Draft) -> None:
    """Adds the services of one folder."""
    base = DraftService("", source=source)
    has_project = is_there(folder / "pyproject.toml")
    python = "pyproject.toml" if has_project else "requirements.txt"
    seen = [
        file
        for file, present in (
            ("Dockerfile", dockerfile(folder / "Dockerfile", base)),
            ("package.json", package_json(folder, base)),
            (python, python_project(folder, base)),
        )
        if present
    ]
    processes = procfile(folder)
    prefix = "" if source == "." else f"{source}/"
    draft.found += [f"{prefix}{file}" for file in seen]
    release = processes.pop("release", "")
    if release:
        draft.notes.append(f"Procfile's release command is not run: {release}")
    if processes:
        draft.found.append(f"{prefix}Procfile: {', '.join(processes)}")
        _processes(processes, base, prefix, draft)
    elif seen:
        base.name = service_name(draft.app if source == "." else source, _names(draft))
        base.origin = ", ".join(f"{prefix}{file}" for file in seen)
        draft.services.append(base)
        if base.run:
            draft.guessed.append(f"{base.name} starts with: {base.run}")
    if "Dockerfile" in seen and not base.build:
        draft.guessed.append(f"the RUN lines of {prefix}Dockerfile are not part of `build`")


def _names(draft: Draft) -> set[str]:
    return {service.name for service in draft.services}


def _processes(processes: dict[str, str], base: DraftService, prefix: str, draft: Draft) -> None:
    own = any(line.startswith("python -m venv") for line in base.build)
    for process, line in processes.items():
        wanted = process if not prefix or process != "web" else base.source
        listens = process == "web" or "$PORT" in line or "${PORT" in line
        draft.services.append(
            DraftService(
                service_name(wanted, _names(draft)),
                source=base.source,
                origin=f"{prefix}Procfile",
                build=list(base.build),
                test=base.test,
                tests_maybe=base.tests_maybe,
                run=in_venv(line) if own else line,
                listens=process == "web",
                image_env=list(base.image_env),
                health={} if listens else {"command": RUNS},
            )
        )
        if not listens:
            said = "gets no port, as it is not `web`: it counts as ready as long as it runs"
            draft.guessed.append(f"{draft.services[-1].name} {said}")


# --- writing it down ------------------------------------------------------------------------------


def render(draft: Draft) -> str:
    """The manifest as text."""
    lines = [
        f"# yaml-language-server: $schema=./{SCHEMA_FILE}",
        "# A first manifest, written by `volery init`. Next: volery check, then volery up",
        f"app: {yaml_text(draft.app)}",
        "",
    ]
    lines += [comment(note) for note in draft.notes] + ([""] if draft.notes else [])
    routed = [service for service in draft.services if service.listens]
    if routed:
        lines += ["gateway:", "  port: 8080  # where users come in", "  routes:"]
        lines += [*_routes(routed), ""]
    lines += ["services:"]
    for number, service in enumerate(draft.services):
        lines += _service(service)
        lines += _EXAMPLE.splitlines() if number == 0 else []
    lines += ["", "environments:", "  dev: {engine: local}"]
    return "\n".join(lines) + "\n"


def _routes(routed: list[DraftService]) -> Iterator[str]:
    first = next((service for service in routed if service.name == "web"), routed[0])
    yield f"    - {{path: /, service: {yaml_text(first.name)}}}"
    for service in routed:
        if service is not first:
            name = yaml_text(service.name)
            yield f"    - {{path: /{service.name}, service: {name}, strip: /{service.name}}}"


def _service(service: DraftService) -> Iterator[str]:
    yield f"  {yaml_text(service.name)}:" + (
        f"  {comment('from ' + service.origin)}" if service.origin else ""
    )
    if service.source != ".":
        yield f"    source: {yaml_text(service.source)}"
    if service.build:
        yield "    build:"
        yield from (f"      - {yaml_text(line)}" for line in service.build)
    if service.test:
        yield f"    test: {yaml_text(service.test)}"
    elif service.tests_maybe:
        yield f"    # test: {service.tests_maybe}"
    duty = "  # must listen on $PORT and exit on SIGTERM" if service.listens else ""
    yield f"    run: {yaml_text(service.run)}{duty}"
    if service.env:
        yield "    env:"
        yield from (f"      {yaml_text(key)}: {yaml_text(v)}" for key, v in service.env.items())
    if service.secrets:
        yield f"    secrets: [{', '.join(map(yaml_text, service.secrets))}]"
    if service.needs:
        yield f"    needs: [{', '.join(map(yaml_text, service.needs))}]"
    yield from _health(service.health)
    if service.scale != 1:
        yield f"    scale: {service.scale}"


def _health(health: dict[str, str]) -> Iterator[str]:
    if health:
        why = "  # it has no port: ready as long as it runs"
        yield "    health:" + (why if health.get("command") == RUNS else "")
    for key, value in health.items():
        if key == "command":
            yield f"      ready: {{command: {json.dumps(value, ensure_ascii=False)}}}"
        else:
            yield f"      {key}: {value if key == 'failures' else yaml_text(value)}"


def write(manifest: Path, draft: Draft) -> Path:
    """Writes the manifest and, for editors, its schema beside it, whose path is returned.

    Raises:
        VoleryError: a manifest is there already, or the folder cannot be written.
    """
    if os.path.lexists(manifest):
        raise VoleryError(
            f"{manifest} is there already, nothing was written",
            code=Code.CONFLICT,
            hint="volery check",
            where=str(manifest),
        )
    schema = manifest.parent / SCHEMA_FILE
    try:
        schema.parent.mkdir(exist_ok=True)
        schema.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
        with manifest.open("x", encoding="utf-8") as file:
            file.write(render(draft))
    except OSError as error:
        raise VoleryError(
            f"cannot write {error.filename or manifest}: {error.strerror}",
            hint="volery init --dry-run prints what would be written",
        ) from None
    return schema
