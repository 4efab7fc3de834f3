"""What a build leaves that is not ours: it stops nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from volery.build import builder
from volery.build.artifact import Artifact, remove_tree
from volery.build.builder import LocalBuilder


def test_what_belongs_to_somebody_else_keeps_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = Artifact("web", "d", tmp_path / "web" / "d")
    theirs = artifact.src / "theirs"
    theirs.mkdir(parents=True)
    artifact.source.mkdir()
    chmod = Path.chmod

    def refused(path: Path, mode: int) -> None:
        if path == theirs:
            raise PermissionError(1, "Operation not permitted", str(path))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", refused)
    artifact.mark_built(1.0)
    assert artifact.built and theirs.is_dir() and not artifact.source.exists()


def test_what_was_built_and_is_not_there_is_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked, but then the rest failed and it was taken away, or a person did that."""
    artifact = Artifact("web", "d", tmp_path / "web" / "d")
    for folder in (artifact.src, artifact.source):
        folder.mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", lambda path: False)  # its source stays
        artifact.mark_built(1.0)
    assert artifact.built
    remove_tree(artifact.src)
    assert not artifact.built and artifact.present
    artifact.start_afresh(lambda: False)
    assert not artifact.built, "not before that is said again"
    artifact.mark_built(1.0)
    assert artifact.built


def test_what_cannot_be_deleted_is_left_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "artifacts" / ".old-abc"
    old.mkdir(parents=True)

    def refused(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    made = LocalBuilder(tmp_path, lambda: None, base_env=lambda _: {})
    monkeypatch.setattr(builder, "remove_tree", refused)
    asyncio.run(made.open())
    assert old.is_dir()
    monkeypatch.undo()
    asyncio.run(made.open())
    assert not old.exists()
