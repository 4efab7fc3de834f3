"""What commands that only look may import: what they do not need would be most of their time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import json, sys
from volery.cli.main import run
code = run({arguments!r})
print(json.dumps([code, sorted(name for name in sys.modules)]), file=sys.stderr)
"""
HEAVY = {"pydantic", "httpx2", "grpc", "starlette", "psutil", "asyncio", "volery.model.application"}


def looked(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and what it has imported."""
    ran = subprocess.run(
        [sys.executable, "-c", LOOK.format(arguments=list(arguments))],
        cwd=folder,
        env={"VOLERY_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, modules = json.loads(ran.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest of which nothing runs."""
    manifest = "app: trial\nservices:\n  web: {run: python3 app.py}\n"
    (tmp_path / "volery.yaml").write_text(manifest)
    return tmp_path


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ()])
def test_the_overview_is_shown_without_building_the_command_line(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    code, modules = looked(folder, *arguments)
    assert code == 0
    assert not modules & (HEAVY | {"cyclopts", "rich", "typing"})


def test_what_asks_nobody_imports_no_client(folder: Path) -> None:
    code, modules = looked(folder, "version")
    assert code == 0
    assert not modules & (HEAVY | {"http.client", "yaml", "rich.console"})


def test_status_reads_two_names_of_the_manifest(folder: Path) -> None:
    code, modules = looked(folder, "status")
    assert code == 7
    assert not modules & (HEAVY | {"rich.console"})


def test_a_manifest_that_tells_no_name_is_read_for_its_mistakes(folder: Path) -> None:
    (folder / "volery.yaml").write_text("app: Trial\nservices: {web: {run: x, scael: 2}}\n")
    code, modules = looked(folder, "status")
    assert code == 2
    assert "volery.model.application" in modules
