"""What other tools' files in a folder say: Dockerfile, Procfile, package.json, pyproject.toml.

Each reader takes a folder and adds to a draft service what it is sure of. The files are hostile
text: regular files of bounded size, parsed without executing anything; what cannot be read counts
as absent.
"""

from __future__ import annotations

import json
import re
import tomllib
from itertools import islice
from pathlib import Path
from typing import Any

from volery.manifest.draft import DraftService, command, joined, with_port
from volery.manifest.load import read_bounded

PROCESSES_MAX = 100
_PROCESS = re.compile(r"^([A-Za-z0-9_-]+):\s*(\S.*)$")
_ASSIGNED = re.compile(r"(?:^|(?<=\s))([A-Za-z_]\w*)=")
_TARGET = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")
_PYTHON_MODULES = ("gunicorn", "uvicorn", "hypercorn", "daphne", "flask", "celery", "pytest")
_VENV = ".venv/bin/python"
_ENTRY_FILES = ("app.py", "main.py", "server.py")


def is_there(path: Path) -> bool:
    """Whether this file or folder exists and may be looked at."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def text_of(path: Path) -> str:
    """The text of a small regular file; empty if there is none or it cannot be read."""
    data = read_bounded(path) if is_there(path) else ""
    return data.decode("utf-8-sig", errors="replace") if isinstance(data, bytes) else ""


def mapping(value: object) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def texts(value: object) -> list[str]:
    """The texts and numbers of a list."""
    items = value if isinstance(value, list) else []
    return [str(item) for item in items if isinstance(item, str | int | float)]


def procfile(folder: Path) -> dict[str, str]:
    """Process types and their commands."""
    found = (_PROCESS.match(line.strip()) for line in text_of(folder / "Procfile").splitlines())
    listed = {match[1]: command(match[2]) for match in found if match}
    return dict(islice(listed.items(), PROCESSES_MAX))


def dockerfile(path: Path, service: DraftService) -> bool:
    """Takes what an image would run and the ports it exposes."""
    text = text_of(path)
    if not text:
        return False
    entry, arguments, ports, workdir, env = "", "", list[str](), "", list[str]()
    for word, rest in _last_stage(text):
        match word:
            case "ENTRYPOINT":
                entry = _docker_command(rest)
            case "CMD":
                arguments = _docker_command(rest)
            case "EXPOSE":
                ports += re.findall(r"\b(\d{2,5})\b", rest)
            case "WORKDIR":
                workdir = rest.strip().rstrip("/")
            case "ENV":
                env += _ASSIGNED.findall(rest) or rest.split()[:1]
    line = f"{entry} {arguments}".strip()
    if workdir.startswith("/"):
        line = re.sub(rf"(?<![^\s'\"=]){re.escape(workdir)}/", "./", line)
    if line and not service.run:
        service.run = with_port(line, ports)
    service.image_env += [name for name in env if name not in ("PORT", "HOST")]
    service.exposed = bool(ports)
    service.listens = service.listens or bool(ports)
    return True


def _last_stage(text: str) -> list[tuple[str, str]]:
    """The instructions that make the image that runs."""
    found: list[tuple[str, str]] = []
    for line in re.sub(r"\\\s*\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            found.clear()
        found.append((word.upper(), rest))
    return found


def _docker_command(text: str) -> str:
    if text.strip().startswith("["):
        try:
            return joined(texts(json.loads(text)))
        except (ValueError, RecursionError):
            return ""
    return command(text)


def package_json(folder: Path, service: DraftService) -> bool:
    """Takes install, build, test and start of a Node package."""
    text = text_of(folder / "package.json")
    if not text:
        return False
    try:
        package = mapping(json.loads(text))
    except (ValueError, RecursionError):
        return False
    scripts = mapping(package.get("scripts"))
    tool, install = _node_tool(folder)
    needs_install = any(mapping(package.get(key)) for key in ("dependencies", "devDependencies"))
    service.build += [install] if needs_install or tool != "npm" else []
    service.build += [f"{tool} run build"] if "build" in scripts else []
    if "test" in scripts and "no test specified" not in str(scripts["test"]):
        service.test = service.test or f"{tool} test"
    if not service.run and "start" in scripts:
        service.run = f"{tool} start"
    elif not service.run and is_there(folder / "server.js"):
        service.run = "node server.js"
    service.listens = service.listens or bool(service.run)
    return True


def _node_tool(folder: Path) -> tuple[str, str]:
    if is_there(folder / "pnpm-lock.yaml"):
        return "pnpm", "pnpm install --frozen-lockfile"
    if is_there(folder / "yarn.lock"):
        return "yarn", "yarn install --frozen-lockfile"
    locked = is_there(folder / "package-lock.json")
    return "npm", "npm ci" if locked else "npm install"


def python_project(folder: Path, service: DraftService) -> bool:
    """Takes install and start of a Python project; packages go into a `.venv` of the build."""
    text = text_of(folder / "pyproject.toml")
    wanted = is_there(folder / "requirements.txt")
    if not text and not wanted:
        return False
    try:
        tree = mapping(tomllib.loads(text))
    except (ValueError, RecursionError):
        return False
    project = mapping(tree.get("project"))
    depends = " ".join(texts(project.get("dependencies"))) + text_of(folder / "requirements.txt")
    scripts = mapping(project.get("scripts"))
    service.build += _python_build(folder, bool(project), bool(scripts or depends.strip()))
    own = any(line.startswith("python -m venv") for line in service.build)
    service.run = service.run or _python_run(folder, scripts, depends)
    if own:
        service.run = in_venv(service.run)
    if "pytest" in mapping(tree.get("tool")) or is_there(folder / "tests"):
        service.tests_maybe = f"{_VENV if own else 'python'} -m pytest -q"
    service.listens = service.listens or bool(service.run)
    return True


def _python_build(folder: Path, package: bool, install: bool) -> list[str]:
    if not install:
        return ["python -m compileall -q ."]
    wanted = "-r requirements.txt" if is_there(folder / "requirements.txt") else "."
    if wanted == "." and not package:
        return ["python -m compileall -q ."]
    return ["python -m venv .venv", f"{_VENV} -m pip install -q {wanted}"]


def _python_run(folder: Path, scripts: dict[str, Any], depends: str) -> str:
    for target in scripts.values():
        match = _TARGET.fullmatch(str(target))
        if match:
            return f"python -c 'from {match[1]} import {match[2]}; {match[2]}()'"
    if is_there(folder / "manage.py"):
        return "python manage.py runserver --noreload $HOST:$PORT"
    file = next((name for name in _ENTRY_FILES if is_there(folder / name)), "")
    if not file:
        return ""
    module = file.removesuffix(".py")
    if re.search(r"(?i)\b(fastapi|uvicorn|starlette)\b", depends):
        return f"python -m uvicorn {module}:app --host $HOST --port $PORT"
    if re.search(r"(?i)\bflask\b", depends):
        return f"python -m flask --app {module} run --host $HOST --port $PORT"
    return f"python {file}"


def in_venv(line: str) -> str:
    """A command of Python's world, run by the `.venv` that the build makes."""
    word, _, rest = line.partition(" ")
    if word in ("python", "python3"):
        return f"{_VENV} {rest}"
    return f"{_VENV} -m {line}" if word in _PYTHON_MODULES else line
