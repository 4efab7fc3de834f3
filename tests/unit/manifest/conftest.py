"""A folder with a manifest in it, and what reading it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from volery.manifest.mistake import ManifestError
from volery.manifest.read import read
from volery.model.application import Application

Write = Callable[..., Path]
Mistakes = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files (`path=text`, folders made) below a folder that becomes the current one."""
    monkeypatch.chdir(tmp_path)

    def write(manifest: str, files: dict[str, str] | None = None) -> Path:
        for name, text in ({"volery.yaml": manifest} | (files or {})).items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(dedent(text), encoding="utf-8")
        return Path("volery.yaml")

    return write


@pytest.fixture
def mistakes(write: Write) -> Mistakes:
    """Every line that reading says, without the file name where it is the root manifest."""

    def mistakes(manifest: str, files: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(ManifestError) as caught:
            read(write(manifest, files))
        return [str(line).removeprefix("volery.yaml:") for line in caught.value.mistakes]

    return mistakes


@pytest.fixture
def application(write: Write) -> Callable[..., Application]:
    """The application a manifest describes."""

    def application(manifest: str, files: dict[str, str] | None = None) -> Application:
        return read(write(manifest, files))

    return application
