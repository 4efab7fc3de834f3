"""What a manifest means for a release is part of it already: its files are no source, whatever they
are called, so that another size or a comment makes no new release."""

from __future__ import annotations

from pathlib import Path

import pytest

from volery.api.offline import offline_plan
from volery.cli.session import Session

WHOLE = """
app: birds
include: [catalog/service.yaml]
services:
  shop: {run: python3 app.py, source: .}
"""
PART = "services: {catalog: {run: python3 app.py, scale: 1}}\n"


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path / "home"))
    folder = tmp_path / "birds"
    (folder / "catalog").mkdir(parents=True)
    for place in (folder, folder / "catalog"):
        (place / "app.py").write_text("print('hello')\n")
    (folder / "catalog" / "service.yaml").write_text(PART)
    (folder / "birds.yaml").write_text(WHOLE)
    return folder / "birds.yaml"


def releases(whole: Path) -> dict[str, str]:
    """Which releases `up` would start."""
    session = Session("dev", whole, "text", yes=False)
    steps = offline_plan(session.apply_body(), session.home)["steps"]
    return {step["service"]: step["release"] for step in steps}


def test_another_size_in_an_included_file_is_no_new_release(whole: Path) -> None:
    before = releases(whole)
    part = whole.parent / "catalog" / "service.yaml"
    part.write_text(PART.replace("scale: 1", "scale: 3"))
    assert releases(whole) == before


def test_a_comment_in_the_file_that_was_named_is_no_new_release(whole: Path) -> None:
    before = releases(whole)
    whole.write_text(WHOLE + "# what we sell\n")
    assert releases(whole) == before


def test_other_files_are_source(whole: Path) -> None:
    before = releases(whole)
    (whole.parent / "catalog" / "other.yaml").write_text(PART)
    after = releases(whole)
    assert after["catalog"] != before["catalog"] and after["shop"] != before["shop"]
