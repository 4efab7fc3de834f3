"""The demo is about its own sample, whatever the caller's shell is set up for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from volery.demo.stage import Stage


def test_the_environment_of_another_application_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("VOLERY_ENV", "staging")
    stage = Stage(quiet=True)
    assert stage.volery("check") == 0
