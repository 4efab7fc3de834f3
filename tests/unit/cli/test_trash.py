"""What cannot be destroyed is said, and is no reason to show nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.volumes import list_


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
