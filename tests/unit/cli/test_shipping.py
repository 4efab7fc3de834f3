"""`deploy`: what it prints, detached or not, and how it ends when the release is bad. And `down`
against somebody else's `up`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.acting import abort
from volery.cli.commands.looking import rollout
from volery.cli.commands.shipping import deploy, down
from volery.model.errors import VoleryError


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


def test_abort_tells_of_the_service_that_was_named(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plane.sources.version = "bbbbbbbb"
    assert deploy("catalog", "shop", detach=True, session=desk.session()) == 0
    capsys.readouterr()
    abort("shop", session=desk.session("json"))
    assert json.loads(capsys.readouterr().out)["service"] == "shop"


def test_down_ends_when_somebody_brings_it_up_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volery.api.launch.is_in_use", lambda home: True)
    monkeypatch.setattr("volery.api.launch.ensure_control_plane", lambda home: False)
    post = desk.client.post

    def and_up(path: str, body: Any = None, **more: Any) -> Any:
        said = post(path, body, **more)
        if path == "/v1/down":
            post("/v1/apply", desk.session().apply_body())
        return said

    monkeypatch.setattr(desk.client, "post", and_up)
    with pytest.raises(VoleryError, match="dev is being brought up again"):
        down(session=desk.session())
