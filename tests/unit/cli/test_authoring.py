"""`init`: what it says, also where it only shows what it would write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volery.cli.commands.authoring import check, init
from volery.cli.session import Session
from volery.manifest.read import read
from volery.model.errors import Code, VoleryError


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


def test_a_manifest_elsewhere_names_the_folders_as_seen_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("api/Procfile"), Path("Procfile"), Path("ops/x")):
        path.parent.mkdir(exist_ok=True)
        path.write_text("web: sh a\n")
    target = Path("ops/volery.yaml")
    assert init(session=Session(None, target, "text", yes=False)) == 0
    sources = {name: item.source for name, item in read(target).services.items()}
    assert sources == {"web": "..", "api": "../api"}


OVERRIDDEN = """\
app: shop
services:
  web:
    run: sh
    stop: {drain: 1s}
    deploy: {watch: 1m}
  api: {run: sh, needs: {web: {timeout: 5s}}}
environments:
  dev: {}
  prod:
    overrides:
      web:
        floor: 5
        scale: {min: 3, max: 4}
        deploy: {gates: [{command: sh}]}
"""


def test_a_finding_about_an_override_is_told_once_and_where_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("volery.yaml").write_text(OVERRIDDEN)
    assert check(session=Session("prod", None, "json", yes=False)) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    at = "environments.prod.overrides.web"
    assert [(item["line"], item["path"]) for item in found] == [
        (5, "services.web.stop.drain"),
        (13, f"{at}.floor"),
        (6, "services.web.deploy.watch"),
        (15, f"{at}.deploy.gates[0].when"),
        (14, f"{at}.scale"),
    ]


@pytest.fixture
def session() -> Session:
    return Session(None, None, "json", yes=False)


@pytest.mark.parametrize("name", ["absent", "a-file"])
def test_what_is_no_folder(tmp_path: Path, session: Session, name: str) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(VoleryError, match=rf"cannot look into .*{name}: No") as wrong:
        init(tmp_path / name, session=session)
    assert wrong.value.code is Code.INVALID


def test_what_cannot_be_written_is_not_written_by_half(
    tmp_path: Path, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".volery").touch()
    with pytest.raises(VoleryError, match=r"cannot write .*/.volery: File exists"):
        init(tmp_path, session=session)
    assert not (tmp_path / "volery.yaml").exists()
    (tmp_path / ".volery").unlink()
    (tmp_path / "volery.yaml").write_text("mine")
    with pytest.raises(VoleryError, match="is there already"):
        init(tmp_path, session=session)
    assert (tmp_path / "volery.yaml").read_text() == "mine"
    assert capsys.readouterr().out == "", "no document of what failed"


def test_a_current_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "gone"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    with pytest.raises(VoleryError, match="the current folder is gone"):
        _ = Session(None, None, "text", yes=False).path
