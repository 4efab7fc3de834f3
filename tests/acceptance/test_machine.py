"""A machine in trouble: ports taken, a home that cannot be written, a full disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from acceptance.project import Project, leftovers, until
from acceptance.services import HTTP, install, route

NOBODY = 65534


def test_a_gateway_port_in_use(project: Project) -> None:
    project.service("catalog")
    with socket.create_server(("127.0.0.1", project.port)):
        result = project.volery("up")
        assert result.code in (1, 2) and str(project.port) in result.err, result.text
        assert "hint:" in result.err and len(result.err.splitlines()) <= 2
        assert leftovers(project.home) == [], "nothing is left behind"
    project.ok("up")
    assert project.version("catalog") == "1"


def test_another_gateway_port_in_use_leaves_the_old_one(project: Project) -> None:
    project.service("catalog")
    project.ok("up")
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        project.manifest["gateway"]["port"] = taken.getsockname()[1]
        project.write()
        result = project.volery("up")
    assert result.code in (1, 2) and str(taken) not in result.err
    assert project.version("catalog") == "1", "the old gateway serves"
    project.manifest["gateway"]["port"] = project.port
    project.write()
    project.ok("up")


def test_a_home_that_cannot_be_written(project: Project) -> None:
    project.service("catalog")
    for path in (project.folder.parent, *project.folder.parent.parents):
        if path.stat().st_uid == os.getuid() and str(path) != "/tmp":
            path.chmod(path.stat().st_mode | 0o055)
    home = project.folder.parent / "sealed"
    home.mkdir(mode=0o555)
    result = _as_nobody(project, home, "up")
    assert result.returncode == 1, result
    assert str(home) in result.stderr and "VOLERY_HOME" in result.stderr
    assert len(result.stderr.splitlines()) == 2 and "Traceback" not in result.stderr
    assert _as_nobody(project, home, "status").returncode == 7
    assert _as_nobody(project, home, "check").returncode == 0
    assert list(home.iterdir()) == []


def _as_nobody(project: Project, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    import sys

    demote: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is needed to give up root")
        demote = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.run(
        [*demote, sys.executable, "-m", "volery", *arguments],
        cwd=project.folder,
        env=project.environment() | {"VOLERY_HOME": str(home), "HOME": "/"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def tiny(project: Project) -> Iterator[Path]:
    """The project's home on a disk of a few megabytes; its ballast file."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tiny file system needs root")
    project.home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(project.home)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr}")
    try:
        yield project.home / "ballast"
    finally:
        try:
            project.close()
        finally:
            subprocess.run(["umount", "-l", str(project.home)], check=True)


def fill(ballast: Path) -> None:
    """Leave no byte free."""
    with ballast.open("ab", buffering=0) as out:
        for size in (65536, 1):
            try:
                while True:
                    out.write(b"x" * size)
            except OSError:
                continue


def test_a_full_disk_from_the_start(project: Project, tiny: Path) -> None:
    project.service("catalog")
    fill(tiny)
    result = project.volery("up")
    assert result.code == 1, result.text
    assert "space" in result.err.lower() or "disk" in result.err.lower(), result.err
    assert len(result.err.splitlines()) <= 3
    tiny.unlink()
    project.ok("up")
    assert project.version("catalog") == "1"


def test_a_disk_that_fills_while_building(project: Project, tiny: Path) -> None:
    install(project, "web", HTTP)
    route(project, "web", "/")
    project.ok("up")
    install(project, "web", HTTP, version="2")
    (project.folder / "web" / "big").write_bytes(os.urandom(16 << 20))
    result = project.volery("deploy", "web")
    assert result.code in (1, 3), result.text
    assert "space" in result.text.lower(), result.text
    assert project.get("/")[1].startswith("1 ")
    (project.folder / "web" / "big").unlink()
    project.ok("deploy", "web")
    assert project.get("/")[1].startswith("2 ")


def test_a_disk_that_is_full_for_the_ledger(project: Project, tiny: Path) -> None:
    install(project, "web", HTTP)
    route(project, "web", "/")
    project.ok("up")
    plane = project.status()["processes"]["control_plane"]
    fill(tiny)
    for command in (("restart", "web"), ("scale", "web", "2")):
        result = project.volery(*command)
        assert result.code == 1, result.text
        words = result.err.lower()
        assert "full" in words or "space" in words or "disk" in words, result.err
        assert len(result.err.splitlines()) <= 2
    assert project.get("/")[1].startswith("1 "), "users notice nothing"
    assert psutil.pid_exists(plane)
    tiny.unlink()
    until(lambda: project.volery("restart", "web").code == 0, "it recovers")
    install(project, "web", HTTP, version="2")
    project.ok("deploy", "web")
    assert project.get("/")[1].startswith("2 ")
