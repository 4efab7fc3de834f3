"""`deploy`: what it prints, detached or not, and how it ends when the release is bad. And `down`
against somebody else's `up`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulation.adapters import Behaviour
from unit.cli.desk import Desk

from volery.cli.commands import looking, shipping
from volery.cli.commands.acting import abort
from volery.cli.commands.looking import rollout
from volery.cli.commands.shipping import deploy
from volery.model.errors import Code, VoleryError


@pytest.fixture
def desk() -> Desk:
    found = Desk()
    found.up()
    return found


def detached(desk: Desk, capsys: pytest.CaptureFixture[str], *services: str) -> Any:
    capsys.readouterr()
    assert deploy(*services, detach=True, session=desk.session("json")) == 0
    return json.loads(capsys.readouterr().out)


def test_one_service_is_one_rollout(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    found = detached(desk, capsys, "catalog")
    assert (found["id"], found["to"]) == ("catalog-r2", "catalog@bbbbbbbb")
    assert found["phase"] not in ("done", "failed", "rolled_back")
    assert set(found["seconds"]) == {"build", "test", "start", "shift"}


def test_several_are_a_list_of_them(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    found = detached(desk, capsys, "catalog", "shop")
    assert [item["id"] for item in found["rollouts"]] == ["catalog-r2", "shop-r2"]


def test_one_that_an_up_began_is_not_judged_by_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    desk = Desk()
    desk.plane.bad["shop@aaaaaaaa"] = "tests"
    desk.client.post("/v1/apply", desk.session().apply_body())
    assert deploy("catalog", session=desk.session("json")) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "catalog-r1"


def test_one_that_another_group_began_goes_back_with_it(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    desk.plane.bad["shop@bbbbbbbb"] = "tests"
    detached(desk, capsys, "catalog", "shop")
    assert deploy("catalog", session=desk.session("json")) == 3
    assert json.loads(capsys.readouterr().out)["id"] == "catalog-r2"


def test_one_that_somebody_goes_back_from_is_still_one_rollout(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("bbbbbbbb", "cccccccc"):
        desk.plane.sources.version = version
        capsys.readouterr()
        if version == "cccccccc":
            go_back_meanwhile(desk, monkeypatch, to="catalog@aaaaaaaa")
        deploy("catalog", session=desk.session("json"))
    found = json.loads(capsys.readouterr().out)
    assert (found["id"], found["to"]) == ("catalog-r3", "catalog@cccccccc")


def go_back_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    """Somebody else says `rollback` when the rollout is looked at first."""
    get, asked = desk.client.get, list[str]()

    def also(path: str, **query: object) -> Any:
        if path == "/v1/rollouts" and not asked:
            asked.append(path)
            desk.client.post("/v1/services/catalog/rollback", {"by": "bob", "to": to})
        return get(path, **query)

    monkeypatch.setattr(desk.client, "get", also)


def test_an_unchanged_one_is_its_last_rollout(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    found = detached(desk, capsys, "catalog")
    assert (found["id"], found["phase"], found["changed"]) == ("catalog-r1", "done", False)


def test_for_people_the_next_command_is_named(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    assert deploy("catalog", detach=True, session=desk.session()) == 0
    assert "volery rollout catalog --watch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "state", "said"),
    [("build", "failed", "could not be built"), ("tests", "refused", "was refused")],
)
def test_a_bad_release_is_exit_3_and_the_old_one_serves(
    desk: Desk, capsys: pytest.CaptureFixture[str], wrong: str, state: str, said: str
) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    desk.plane.bad["catalog@bbbbbbbb"] = wrong
    assert deploy("catalog", session=desk.session()) == 3
    assert f"catalog@bbbbbbbb {said}; catalog@aaaaaaaa serves" in capsys.readouterr().out
    releases = desk.client.get("/v1/services/catalog/releases")["releases"]
    assert [item["state"] for item in releases] == [state, "live"]


@pytest.mark.parametrize("wrong", ["build", "tests"])
def test_a_bad_first_release_is_exit_1(wrong: str) -> None:
    desk = Desk()
    desk.plane.bad["catalog@aaaaaaaa"] = wrong
    desk.client.post("/v1/apply", desk.session().apply_body())
    assert rollout("catalog", watch=True, session=desk.session("json")) == 1


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("moment", ["at once", "when it is done", "when all is over"])
def test_who_watches_one_of_a_group_learns_that_it_was_undone(
    desk: Desk,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    moment: str,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setattr(looking, "LOOK_EVERY_SECONDS", 0.0)
    desk.plane.sources.version = "bbbbbbbb"
    desk.plane.engine.behaviour = lambda release: Behaviour(
        "never-ready" if release == "shop@bbbbbbbb" else "good"
    )
    assert deploy("catalog", "shop", detach=True, session=desk.session()) == 0
    phase = ""
    while moment == "when it is done" and phase != "done":
        phase = desk.client.get("/v1/services/catalog-r2/rollout")["phase"]
    desk.plane.run(60 if moment == "when all is over" else 0)
    capsys.readouterr()
    assert rollout("catalog-r2", watch=True, session=desk.session()) == 3
    assert "catalog@bbbbbbbb -> catalog@aaaaaaaa" in capsys.readouterr().out


def test_a_paused_rollout_says_how_to_go_on(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    assert deploy("catalog", detach=True, session=desk.session()) == 0
    while desk.client.get("/v1/services/catalog/rollout")["phase"] != "starting":
        desk.plane.run(0.1)
    desk.client.post("/v1/services/catalog/pause", {"by": "ann"})
    with pytest.raises(VoleryError, match="not finished after 50ms"):
        deploy("catalog", timeout="50ms", session=desk.session())
    said = capsys.readouterr().err
    assert "because: pause asked for by ann" in said
    for verb in ("resume", "promote", "abort"):
        assert f"volery {verb} catalog" in said


def test_what_was_aborted_is_no_bad_release(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    look = desk.client.get

    def get(path: str, **query: object) -> Any:
        found = look(path, **query)
        if path == "/v1/rollouts" and found["rollouts"][0]["phase"] == "starting":
            desk.client.post("/v1/services/catalog/abort")
        return found

    monkeypatch.setattr(desk.client, "get", get)
    assert deploy("catalog", session=desk.session()) == 3
    assert "catalog@bbbbbbbb was taken back; catalog@aaaaaaaa serves" in capsys.readouterr().out


def test_down_does_not_wait_for_what_somebody_brings_up_again(desk: Desk) -> None:
    session = desk.session()
    desk.client.post("/v1/down", {})
    desk.client.post("/v1/apply", session.apply_body())
    with pytest.raises(VoleryError, match="volery up was asked for meanwhile") as ended:
        shipping._until_gone(session)
    assert ended.value.code is Code.CONFLICT


def test_abort_tells_of_the_service_that_was_named(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    assert deploy("catalog", "shop", detach=True, session=desk.session()) == 0
    capsys.readouterr()
    abort("shop", session=desk.session("json"))
    assert json.loads(capsys.readouterr().out)["service"] == "shop"


def test_what_it_cannot_do_without_must_be_there(desk: Desk) -> None:
    services = desk.manifest["services"]
    shop = services["shop"] | {"needs": ["catalog", "api"]}
    desk.manifest = desk.manifest | {"services": services | {"shop": shop, "api": {"run": "serve"}}}
    desk.plane.sources.version = "bbbbbbbb"
    with pytest.raises(VoleryError, match="shop needs api, which is not there") as refused:
        deploy("shop", session=desk.session())
    assert refused.value.hint.endswith("volery deploy shop api")
    with pytest.raises(VoleryError, match="which is not there"):
        desk.client.post("/v1/plan", desk.session().apply_body(("shop",)))
    assert deploy("shop", "api", session=desk.session()) == 0


def test_what_it_can_do_without_is_told_where_it_is_not_there(desk: Desk) -> None:
    services = desk.manifest["services"]
    shop = services["shop"] | {"needs": {"api": {"importance": "degradable"}}}
    desk.manifest = desk.manifest | {"services": services | {"shop": shop, "api": {"run": "serve"}}}
    desk.plane.sources.version = "bbbbbbbb"
    assert deploy("shop", session=desk.session()) == 0
    found = desk.client.get("/v1/status")["services"]["shop"]
    assert (found["state"], found["needs_down"][0]["need"]) == ("degraded", "api")
