"""`rollback` by hand: where it leads, and what it says."""

from __future__ import annotations

import json

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.acting import rollback
from volery.cli.commands.shipping import deploy


@pytest.fixture
def desk() -> Desk:
    found = Desk()
    found.up()
    found.plane.sources.version = "bbbbbbbb"
    assert deploy("catalog", session=found.session()) == 0
    return found


@pytest.mark.parametrize("to", ["bbbb", "catalog@bbbbbbbb"])
def test_to_what_serves_already_nothing_is_done(
    desk: Desk, capsys: pytest.CaptureFixture[str], to: str
) -> None:
    before = desk.plane.store.last_seq()
    capsys.readouterr()
    assert rollback("catalog", to=to, session=desk.session()) == 0
    assert capsys.readouterr().out == "catalog@bbbbbbbb serves already\n"
    assert rollback("catalog", to=to, session=desk.session("json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["to"], found["phase"], found["changed"]) == ("catalog@bbbbbbbb", "done", False)
    assert desk.plane.store.last_seq() == before


def test_to_what_serves_already_and_back_again(desk: Desk) -> None:
    assert rollback("catalog", session=desk.session()) == 0
    assert rollback("catalog", to="aaaa", session=desk.session()) == 0
    assert rollback("catalog", to="bbbb", session=desk.session()) == 0
    assert desk.client.get("/v1/status")["services"]["catalog"]["release"] == "catalog@bbbbbbbb"
    assert len(desk.plane.operations.world.rollouts) == 5, "two of up, a deploy, and two of these"
