"""In a home that another user owns every command says so; it is no defect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from volery.cli.main import run

MANIFEST = """\
app: birds
gateway: {port: 18093}
services: {shop: {run: python3 -m http.server, secrets: [KEY]}}
"""
COMMANDS = ("status", "events", "logs shop", "plan", "check", "down --yes", "volumes", "doctor")


def without_rights() -> list[str]:
    """What takes from root that it may read what others own."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv to be root without its rights")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture
def volery(tmp_path: Path) -> list[str]:
    (tmp_path / "volery.yaml").write_text(MANIFEST)
    return [*without_rights(), sys.executable, "-m", "volery"]


def typed(volery: list[str], text: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*volery, *text.split()],
        cwd=folder,
        env=os.environ | {"VOLERY_HOME": str(folder / "home")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "deep"), [*((command, 2) for command in COMMANDS), ("up", 0), ("doctor", 0)]
)
def test_a_home_of_another_user_is_told(
    tmp_path: Path, volery: list[str], command: str, deep: int
) -> None:
    home = tmp_path / "home" / "birds" / "dev"
    (home / "control").mkdir(parents=True)
    closed = [tmp_path / "home", home.parent, home][deep]
    closed.chmod(0)
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
    code, said = typed(volery, command, tmp_path)
    closed.chmod(0o700)
    assert "defect" not in said and "Traceback" not in said
    assert code == (1 if command == "doctor" else 6), said
    assert f"{closed} may not be entered" in said
    assert "or set VOLERY_HOME to a folder of your own" in said
    if os.geteuid() == 0:
        assert "it belongs to nobody" in said


def test_what_else_may_not_be_read_is_no_defect(tmp_path: Path, volery: list[str]) -> None:
    lock = tmp_path / "home" / "birds" / "dev" / "control" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    lock.chmod(0)
    code, said = typed(volery, "status", tmp_path)
    assert code == 6 and "defect" not in said
    assert f"error: {lock}: Permission denied" in said and "hint: ls -ld " in said
    code, said = typed(volery, "doctor", tmp_path)
    assert code == 1 and f"Permission denied: '{lock}'" in said, "one of its findings"


def test_an_address_that_is_none_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "http://[::1"]) == 2
    assert "error: 'http://[::1' is no address" in capsys.readouterr().err
