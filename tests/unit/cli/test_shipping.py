"""`deploy --detach`: what was begun, in the shape of what will be there at its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.shipping import deploy


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
