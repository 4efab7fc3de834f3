"""`up` of what was refused before: the last good release serves, whatever happened in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulation.adapters import Behaviour
from unit.cli.desk import Desk

from volery.api.home import Home
from volery.api.offline import offline_plan
from volery.cli.commands.shipping import deploy, up
from volery.model.errors import Code, VoleryError
from volery.model.ports import Change, DocumentKind
from volery.store.sqlite import SqliteStore

GOOD, BAD = "catalog@aaaaaaaa", "catalog@bbbbbbbb"


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Everything runs; the catalog's next release is refused."""
    monkeypatch.setattr("volery.api.launch.ensure_control_plane", lambda home: False)
    found = Desk()
    found.manifest = found.manifest | {"environments": {"dev": {}}}
    found.up()
    found.plane.engine.behaviour = lambda release: Behaviour("crash" if release == BAD else "good")
    found.plane.sources.versions["catalog"] = "bbbbbbbb"
    assert deploy("catalog", session=found.session()) == 3
    return found


def never_served(desk: Desk) -> Desk:
    """The same application elsewhere, where the catalog's first release failed its tests."""
    found = Desk()
    found.manifest = desk.manifest
    found.plane.bad[GOOD] = "tests"
    assert up(session=found.session()) == 1
    return found


def down(desk: Desk) -> None:
    desk.client.post("/v1/down", {"by": "ann"})
    while not desk.client.get("/v1/gone")["gone"]:
        pass


def states(desk: Desk) -> dict[str, str]:
    found = desk.client.get("/v1/services/catalog/releases")["releases"]
    return {item["release"]: item["state"] for item in found}


def planned(desk: Desk) -> dict[str, Any]:
    steps = desk.client.post("/v1/plan", desk.session().apply_body())["steps"]
    return {step["service"]: step for step in steps}


def test_the_last_good_release_is_started_instead(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    down(desk)
    step = planned(desk)["catalog"]
    assert (step["verb"], step["release"], step["refused"]) == ("start", GOOD, BAD)
    assert step["text"].startswith(f"[1] start catalog: {GOOD}, {BAD} was refused: ")
    assert up(detach=True, session=desk.session()) == 0
    assert up(session=desk.session()) == 3, "it waits for what is begun"
    rollouts = desk.plane.operations.world.rollouts
    assert [item.to_release for item in rollouts.values() if item.cause == "up"].count(GOOD) == 2
    assert f"{BAD} was refused: " in capsys.readouterr().err
    assert desk.client.get("/v1/status")["services"]["catalog"]["release"] == GOOD
    assert states(desk) == {GOOD: "live", BAD: "refused"}
    assert up(session=desk.session()) == 3, "and so again while it runs"


def test_with_force_it_is_tried_again(desk: Desk) -> None:
    down(desk)
    desk.plane.engine.behaviour = lambda release: Behaviour()
    assert up(force=True, session=desk.session()) == 0
    assert states(desk) == {GOOD: "kept", BAD: "live"}


def test_what_never_served_is_refused_where_nothing_runs(
    capsys: pytest.CaptureFixture[str], desk: Desk
) -> None:
    new = never_served(desk)
    assert up(session=new.session()) == 1, "nothing is down: to try again harms nobody"
    down(new)
    step = planned(new)["catalog"]
    assert (step["verb"], step["release"], step["refused"]) == ("refuse", None, GOOD)
    before = new.plane.store.last_seq()
    with pytest.raises(VoleryError, match=f"{GOOD} was refused: ") as raised:
        up(session=new.session())
    assert (raised.value.code, raised.value.hint) == (
        Code.REFUSED,
        "change it, or: volery up --force",
    )
    assert new.plane.store.last_seq() == before, "nothing was begun"
    new.plane.bad.clear()
    assert up(force=True, session=new.session()) == 0


def test_a_deploy_of_what_is_scaled_to_nothing_is_refused_too(desk: Desk) -> None:
    desk.client.post("/v1/services/catalog/scale", {"instances": 0})
    desk.plane.run()
    with pytest.raises(VoleryError, match=f"{BAD} was refused: ") as raised:
        deploy("catalog", session=desk.session())
    assert raised.value.code is Code.REFUSED and "--force" in raised.value.hint


def test_the_plan_says_so_without_a_control_plane(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    down(desk)
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("volery.api.offline.release_id", lambda name, *_: f"{name}@bbbbbbbb")
    home, store = Home.of("birds", "dev"), desk.plane.store
    home.create()
    with SqliteStore(home.ledger) as file:
        kinds: tuple[DocumentKind, ...] = ("environment", "service", "release", "rollout")
        for kind in kinds:
            file.commit([Change(kind, *item) for item in store.documents(kind).items()], [])
    (tmp_path / "source").mkdir()
    body = desk.session().apply_body() | {"root": str(tmp_path / "source")}
    steps = {step["service"]: step for step in offline_plan(body, home)["steps"]}
    assert (steps["catalog"]["verb"], steps["catalog"]["release"]) == ("start", GOOD)
    assert steps["catalog"]["refused"] == BAD


SERVES = f"; {GOOD} serves"
NOT_ALL = "not everything came up"


def healthy(desk: Desk) -> bool:
    found = desk.client.get("/v1/status")["services"].values()
    return {item["state"] for item in found} == {"healthy"}


def test_where_the_last_good_one_serves_it_is_said_so(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert up(session=desk.session()) == 3
    said = capsys.readouterr().err
    assert f"{BAD} was refused: " in said and SERVES in said and NOT_ALL not in said
    assert "hint: change it, or: volery deploy catalog --force" in said
    assert healthy(desk)


@pytest.mark.parametrize(("wrong", "words"), [("tests", "was refused"), ("build", "could not be")])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "down"])
def test_a_release_that_is_bad_at_this_up_leaves_the_others_alone(
    desk: Desk, capsys: pytest.CaptureFixture[str], stopped: bool, wrong: str, words: str
) -> None:
    desk.plane.sources.versions["catalog"] = "cccccccc"
    desk.plane.bad["catalog@cccccccc"] = wrong
    if stopped:
        down(desk)
    capsys.readouterr()
    assert up(session=desk.session()) == 3
    said = capsys.readouterr().err
    assert f"catalog@cccccccc {words}" in said and SERVES in said and NOT_ALL not in said
    assert "catalog failed" not in said, "nothing is wrong with the shop"
    assert healthy(desk)


def test_what_changed_with_it_is_not_started_and_what_was_serves(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plane.sources.versions = {"catalog": "cccccccc", "shop": "cccccccc"}
    desk.plane.bad["catalog@cccccccc"] = "tests"
    down(desk)
    capsys.readouterr()
    assert up(session=desk.session()) == 3
    said = capsys.readouterr().err
    assert "shop@cccccccc was not started: catalog failed: " in said
    assert "; shop@aaaaaaaa serves" in said and SERVES in said and NOT_ALL not in said


def test_where_nothing_serves_not_everything_came_up(
    capsys: pytest.CaptureFixture[str], desk: Desk
) -> None:
    never_served(desk)
    said = capsys.readouterr().err
    assert f"{GOOD} was refused: " in said and "; catalog is down" in said
    assert "shop@aaaaaaaa was not started: catalog failed: " in said and NOT_ALL in said
