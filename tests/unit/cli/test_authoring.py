"""`init`: what it says, also where it only shows what it would write."""

from __future__ import annotations

from pathlib import Path

import pytest

from volery.cli.commands.authoring import init
from volery.cli.session import Session


def test_a_dry_run_says_all_that_the_real_one_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Procfile").write_text("web: python app.py\nworker: sh w\nrelease: sh m\n")
    session = Session(None, None, "text", yes=False)
    assert init(tmp_path, dry_run=True, session=session) == 0
    shown = capsys.readouterr()
    assert not (tmp_path / "volery.yaml").exists()
    assert init(tmp_path, session=session) == 0
    assert (tmp_path / "volery.yaml").read_text() == shown.out
    assert capsys.readouterr().err == shown.err
    assert "worker gets no port" in shown.err and "release command is not run" in shown.err
