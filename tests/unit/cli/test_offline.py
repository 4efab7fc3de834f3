"""What commands say from files alone: places of findings, secrets in use, the past."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.decide.worlds import application, running

from volery.api.home import Home
from volery.cli.commands.authoring import check
from volery.cli.commands.looking import events, releases
from volery.cli.commands.secrets import list_, rm_, set_
from volery.cli.commands.shipping import plan
from volery.cli.main import run
from volery.cli.session import Session
from volery.model.errors import Code, VoleryError
from volery.model.ports import Change
from volery.model.state import Event
from volery.store.secrets import Secrets
from volery.store.sqlite import SqliteStore

MANIFEST = """\
app: birds
services:
  shop:
    run: python3 -m http.server
    secrets: [KEY]
    needs:
      catalog: {retry: {attempts: 2, budget: 0%}}
  catalog:
    run: python3 -m http.server
"""


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("volery.yaml").write_text(MANIFEST)
    return lambda output="text", yes=False: Session(None, Path("volery.yaml"), output, yes)


def remember(home: Home) -> None:
    """A ledger: shop and catalog run, each was started."""
    app = application(shop={"secrets": ["KEY"]}, catalog={})
    world = running(app)
    home.create()
    with SqliteStore(home.ledger) as store:
        assert world.environment is not None
        changes = [Change("environment", "environment", world.environment)]
        changes += [Change("service", name, item) for name, item in world.services.items()]
        changes += [Change("release", name, item) for name, item in world.releases.items()]
        names = ("shop", "catalog")
        store.commit(changes, [Event(1.0, "rollout.done", f"{n} serves", n) for n in names])


def test_findings_are_located(
    session: Callable[..., Session], capsys: pytest.CaptureFixture[str]
) -> None:
    check(session=session())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("volery.yaml:5:5: warning: services.shop.secrets: KEY is not set")
    assert lines[1].startswith(
        "volery.yaml:7:46: warning: services.shop.needs.catalog.retry.budget: with a budget of 0%"
    )
    check(session=session("json"))
    found = json.loads(capsys.readouterr().out)["findings"][1]
    assert (found["file"], found["line"], found["column"]) == ("volery.yaml", 7, 46)


def test_an_error_about_the_manifest_is_located(session: Callable[..., Session]) -> None:
    about = VoleryError("KEY is not set", hint="set it", where="services.shop.secrets")
    assert session().located(about).where == "volery.yaml:5:5: services.shop.secrets"
    elsewhere = VoleryError("it broke", where="/some/file")
    assert session().located(elsewhere) is elsewhere


def test_plan_names_secrets_that_are_not_set(
    session: Callable[..., Session], capsys: pytest.CaptureFixture[str]
) -> None:
    plan(session=session())
    said = "services.shop.secrets: KEY is not set here: volery secret set KEY"
    assert f"warning: {said}" in capsys.readouterr().out
    plan("catalog", session=session("json"))
    assert json.loads(capsys.readouterr().out)["warnings"] == []
    plan(session=session("json"))
    assert json.loads(capsys.readouterr().out)["warnings"] == [said]


def test_a_secret_in_use_is_not_removed_unasked(session: Callable[..., Session]) -> None:
    home = session().home
    remember(home)
    Secrets(home.secrets).set("KEY", "value")
    with pytest.raises(VoleryError) as refused:
        rm_("KEY", session=session())
    assert refused.value.code is Code.REFUSED
    assert "shop runs with it and could not start again" in refused.value.message
    rm_("KEY", session=session(yes=True))
    with pytest.raises(VoleryError, match="no secret KEY is set") as unset:
        rm_("KEY", session=session())
    assert unset.value.hint == "set here: none"


def test_looking_for_secrets_makes_nothing(
    session: Callable[..., Session], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list_(session=session("json")) == 0
    assert json.loads(capsys.readouterr().out) == {"secrets": []}
    with pytest.raises(VoleryError, match="no secret KEY is set"):
        rm_("KEY", session=session())
    assert not session().home.path.exists()


def test_a_secret_that_nobody_wants_is_said_so(
    session: Callable[..., Session],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def put(name: str) -> str:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"value")))
        assert set_(name, session=session()) == 0
        return capsys.readouterr().err

    assert put("KEYY") == "no service of volery.yaml has it in its `secrets`; did you mean KEY?\n"
    assert put("OTHER") == "no service of volery.yaml has it in its `secrets`\n"
    assert put("KEY") == ""
    Path("volery.yaml").write_text("app: birds\nservices: {shop: {run: 5}}\n")
    assert put("LATER") == "", "a manifest with mistakes says nothing about it"


def test_the_past_without_a_control_plane(
    session: Callable[..., Session], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VoleryError, match="no control plane"):
        events(session=session())
    remember(session().home)
    assert events("shop", session=session("json")) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["text"] == "shop serves"
    assert "no control plane runs here" in told.err
    assert releases("shop", session=session("json")) == 0
    assert json.loads(capsys.readouterr().out)["releases"][0]["state"] == "live"
    with pytest.raises(VoleryError, match="no service 'shp'"):
        releases("shp", session=session())
    with pytest.raises(VoleryError, match="no control plane"):
        events(follow=True, session=session())


def test_the_past_of_a_service_that_left(
    session: Callable[..., Session], capsys: pytest.CaptureFixture[str]
) -> None:
    home = session().home
    remember(home)
    with SqliteStore(home.ledger) as store:
        store.commit([], [Event(2.0, "rollout.done", "gone serves", "gone")])
    assert events("gone", session=session()) == 0
    assert "gone serves" in capsys.readouterr().out
    assert events(why="gone", session=session()) == 0
    with pytest.raises(VoleryError, match="no service 'goen'"):
        events("goen", session=session())


def test_looking_needs_no_lock(session: Callable[..., Session]) -> None:
    home = session().home
    remember(home)
    with SqliteStore(home.ledger), SqliteStore(home.ledger, read_only=True) as look:
        assert len(look.events()) == 2
        with pytest.raises(VoleryError, match="read-only"):
            look.commit([], [Event(2.0, "x", "y")])


def test_a_plan_of_a_service_that_nobody_knows(session: Callable[..., Session]) -> None:
    with pytest.raises(VoleryError, match="no service 'shp'") as unknown:
        plan("shp", session=session())
    assert unknown.value.code is Code.NOT_FOUND


def test_what_volery_keeps_in_the_checkout_is_no_source(
    session: Callable[..., Session],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of all environments: one's secrets would be in the artifacts of the other."""

    def planned() -> list[str]:
        assert plan(session=session("json")) == 0
        return [step["release"] for step in json.loads(capsys.readouterr().out)["steps"]]

    for home in (Path.cwd() / ".state", Path.cwd()):
        monkeypatch.setenv("VOLERY_HOME", str(home))
        home.mkdir(exist_ok=True)
        before = planned()
        for kept in ("birds/staging/secrets/key", "birds/local/ledger.db", ".accounts/a"):
            (home / kept).parent.mkdir(parents=True, exist_ok=True)
            (home / kept).write_text("kept")
        assert planned() == before


def test_the_name_of_a_service_as_a_shell_completes_that_of_its_folder(
    session: Callable[..., Session], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--output", "json", "plan", "catalog/"]) == 0
    (step,) = json.loads(capsys.readouterr().out)["steps"]
    assert step["service"] == "catalog"
    assert run(["plan", "Catalog"]) == 2
    assert capsys.readouterr().err == "error: no service 'Catalog'\nhint: did you mean catalog?\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["rollback", "shop", "--to", ""], "--to is empty"),
        (["deploy", "shop", "--release", ""], "--release is empty"),
        (["deploy", "shop", ""], "SERVICES is empty"),
        (["restart", ""], "SERVICE is empty"),
        (["guard", "stop", "shop", "--for", "0s"], "--for must be more than 0"),
    ],
)
def test_an_empty_word_is_wrong_usage(
    session: Callable[..., Session], line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script took a variable that was not set: `--to` would have been any release."""
    assert run(line) == 2
    told = capsys.readouterr().err
    assert said in told and "openapi" not in told


def test_one_document_is_all_that_a_script_gets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--output", "json", "completion", "bash"]) == 0
    assert "volery" in json.loads(capsys.readouterr().out)["script"]
    assert run(["--output", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["message"] == "which command?"


@pytest.mark.parametrize("command", [["check"], ["plan"], ["up"], ["plan", "--output", "json"]])
def test_a_folder_whose_name_is_no_text_is_refused_with_its_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path / "home"))
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "volery.yaml").write_text(MANIFEST)
    monkeypatch.chdir(folder)
    assert run(command) == 2
    said = f"{tmp_path}/caf\\xe9 has a name that is no UTF-8"
    error = capsys.readouterr().err
    assert said in (json.loads(error)["error"]["message"] if "json" in command else error)
