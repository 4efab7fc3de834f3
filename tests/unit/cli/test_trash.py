"""Volumes are deleted only of what is stopped; what cannot be destroyed is said."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from unit.cli.desk import Desk

from volery.api import launch
from volery.cli.commands.shipping import down
from volery.cli.commands.volumes import list_
from volery.model.errors import Code, VoleryError
from volery.store.files import hold


def test_volumes_are_listed_although_one_cannot_be_destroyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("VOLERY_HOME", str(tmp_path))
    monkeypatch.setattr("volery.store.volumes.shutil.rmtree", refuse)
    session = Desk().session()
    (session.home.volumes / "db" / "data-0").mkdir(parents=True)
    (session.home.trash / "purging~db~data-1~1~2").mkdir(parents=True)
    assert list_(session=session) == 0
    said = capsys.readouterr()
    assert "db/data-0" in said.out
    assert said.err.startswith("warning: cannot delete ") and "rm -r" in said.err


@pytest.mark.parametrize("by", ["its control plane", "an instance"])
def test_the_volumes_of_what_was_brought_up_meanwhile_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "is_in_use", lambda home: False)
    monkeypatch.setattr("volery.cli.commands.volumes.LOCK_SECONDS", 0.0)
    session = Desk().session()
    session.yes = True
    (session.home.volumes / "db" / "data-0").mkdir(parents=True)
    if by == "its control plane":
        lock = hold(session.home.lock, 0.0, "")
    else:
        (session.home.path / "instances" / "db-0").mkdir(parents=True)
        lock = hold(session.home.path / "instances" / "db-0" / "lock", 0.0, "")
    with pytest.raises(VoleryError, match="brought up meanwhile; no volume is deleted") as refused:
        down(volumes=True, session=session)
    assert refused.value.code is Code.CONFLICT
    assert (session.home.volumes / "db" / "data-0").exists()
    os.close(lock)
    assert down(volumes=True, session=session) == 0
    assert not (session.home.volumes / "db" / "data-0").exists()
    assert len(list(session.home.trash.iterdir())) == 1


def test_an_environment_that_never_was_has_no_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path))
    session = Desk().session()
    session.yes = True
    assert down(volumes=True, session=session) == 0
    assert capsys.readouterr().out == "nothing was running; there were no volumes\n"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_destroyed_at_once_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("VOLERY_HOME", str(tmp_path))
    monkeypatch.setattr("volery.store.volumes.shutil.rmtree", refuse)
    desk = Desk()
    desk.manifest = desk.manifest | {"environments": {"dev": {"volumes": {"keep": "0s"}}}}
    session = desk.session()
    session.yes = True
    (session.home.volumes / "db" / "data-0").mkdir(parents=True)
    with pytest.raises(VoleryError, match="cannot delete "):
        down(volumes=True, session=session)
    assert capsys.readouterr().out == ""


def test_two_who_delete_the_volumes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path))
    session = Desk().session()
    session.yes = True
    (session.home.volumes / "db" / "data-0").mkdir(parents=True)
    lock = hold(session.home.lock, 0.0, "")
    monkeypatch.setattr("volery.cli.commands.volumes.LOCK_SECONDS", 60.0)
    threading.Timer(0.1, os.close, [lock]).start()
    assert down(volumes=True, session=session) == 0
    assert not (session.home.volumes / "db").exists()
