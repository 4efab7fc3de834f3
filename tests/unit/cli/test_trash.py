"""Volumes are deleted only of what is stopped; what cannot be destroyed is said."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from unit.cli.desk import Desk

from volery.api import launch
from volery.cli.commands.shipping import down
from volery.cli.commands.volumes import list_, purge_, restore_
from volery.cli.session import Session
from volery.model.errors import Code, VoleryError
from volery.model.ports import Change
from volery.model.tenure import Tenure
from volery.store.files import hold
from volery.store.sqlite import SqliteStore


def test_volumes_are_listed_although_one_cannot_be_destroyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Path, **__: Any) -> None:
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
    def refuse(_: Path, **more: Any) -> None:
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


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """An environment that is down, with a ledger."""
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path))
    session = Desk().session()
    session.yes = True
    session.home.create()
    SqliteStore(session.home.ledger).close()
    return session


def told(session: Session) -> list[str]:
    with SqliteStore(session.home.ledger, read_only=True) as store:
        return [f"{item.kind} {item.data['volume']}" for item in store.events()]


def test_one_that_cannot_be_destroyed_keeps_nobody_from_purging_another(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    destroy = shutil.rmtree

    def refusing(folder: Path, **more: Any) -> None:
        if "data-1" in folder.name:
            raise PermissionError(13, "Permission denied")
        destroy(folder, **more)

    monkeypatch.setattr("volery.store.volumes.shutil.rmtree", refusing)
    (session.home.trash / "purging~db~data-1~1~2").mkdir(parents=True)
    (session.home.trash / "db~data-0~1~9999999999").mkdir()
    assert purge_("db/data-0", session=session) == 0
    assert not (session.home.trash / "db~data-0~1~9999999999").exists()
    said = capsys.readouterr()
    assert said.out == "db/data-0@1 is destroyed\n" and said.err.startswith(
        "warning: cannot delete"
    )
    assert told(session) == ["volume.purged db/data-0@1"]


def test_purging_asks_only_about_what_is_there(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.yes = False
    for number in (1, 10):
        (session.home.trash / f"db~data-{number}~1~9999999999").mkdir(parents=True)
    with pytest.raises(VoleryError) as unknown:
        purge_("db/data-2", session=session)
    assert unknown.value.code is Code.NOT_FOUND
    with pytest.raises(VoleryError, match="needs --yes"):
        purge_("db/data-1", session=session)
    assert capsys.readouterr().err == "  db/data-1@1: 0 bytes\n"


def test_a_look_at_volumes_leaves_destroying_to_the_control_plane(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "is_in_use", lambda home: True)
    left = session.home.trash / "purging~db~data-1~1~2"
    left.mkdir(parents=True)
    assert list_(session=session) == 0 and left.exists()


def test_what_cannot_be_written_down_is_not_restored(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or nobody could write it down any more, and the primary would begin with an empty volume."""
    monkeypatch.setattr("volery.store.sqlite.LOCK_SECONDS", 0.0)
    deleted = session.home.trash / "db~data-0~1~9999999999"
    deleted.mkdir(parents=True)
    with SqliteStore(session.home.ledger), pytest.raises(VoleryError, match="control plane runs"):
        restore_("db/data-0", session=session)
    assert deleted.exists()
    assert restore_("db/data-0", session=session) == 0
    assert (session.home.volumes / "db" / "data-0").exists()
    assert told(session) == ["volume.restored db/data-0"]


def test_a_place_that_is_taken_is_refused_before_anything_is_told(session: Session) -> None:
    (session.home.trash / "db~data-0~1~9999999999").mkdir(parents=True)
    (session.home.volumes / "db" / "data-0").mkdir(parents=True)
    with pytest.raises(VoleryError, match="is there already"):
        restore_("db/data-0", session=session)
    assert told(session) == []


def test_whoever_has_the_ledger_for_a_moment_is_waited_for(session: Session) -> None:
    (session.home.trash / "db~data-0~1~9999999999").mkdir(parents=True)
    lock = hold(session.home.ledger.with_name("ledger.db.lock"), 0.0, "")
    letting_go = threading.Timer(0.3, os.close, [lock])
    letting_go.start()
    assert restore_("db/data-0", session=session) == 0
    letting_go.join()


def test_what_was_moved_is_told_although_another_could_not_be(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount point, say. Its service is not told that it may begin without data."""
    with SqliteStore(session.home.ledger) as store:
        tenures = [
            Change("tenure", name, Tenure(name, f"{name}-0", 1, 0.0)) for name in ("db", "kv")
        ]
        store.commit(tenures, ())
    for name in ("db/data-0", "db/data-1", "kv/data-0"):
        (session.home.volumes / name).mkdir(parents=True)
    rename = Path.rename

    def busy(path: Path, target: Path) -> Path:
        if path.parts[-2:] == ("db", "data-1"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(VoleryError, match=r"cannot move .*data-1"):
        down(volumes=True, session=session)
    moved = ["volume.deleted db/data-0", "volume.deleted kv/data-0"]
    assert [item.partition("@")[0] for item in told(session)] == moved
    assert emptied(session) == []
    monkeypatch.setattr(Path, "rename", rename)
    assert down(volumes=True, session=session) == 0
    assert [item.partition("@")[0] for item in told(session)][2:] == ["volume.deleted db/data-1"]
    assert emptied(session) == ["db", "kv"]


def emptied(session: Session) -> list[str]:
    with SqliteStore(session.home.ledger, read_only=True) as store:
        found = store.documents("tenure").items()
    return [name for name, item in found if isinstance(item, Tenure) and item.emptied]
