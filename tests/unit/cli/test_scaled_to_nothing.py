"""`scale SERVICE 0`: nothing serves, and everything says so."""

from __future__ import annotations

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.acting import scale
from volery.cli.commands.looking import status


def test_it_is_down_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    desk.up()
    assert scale("catalog", 0, session=desk.session()) == 0
    assert "catalog has 0 instances: it is down until" in capsys.readouterr().out
    found = desk.client.get("/v1/status")["services"]["catalog"]
    assert (found["state"], found["desired"], found["instances"]) == ("down", 0, [])
    status(session=desk.session())
    assert "catalog: scaled to 0: volery scale catalog N starts it" in capsys.readouterr().out
    status("catalog", session=desk.session())
    assert "catalog: scaled to 0" in capsys.readouterr().out
    assert scale("catalog", 1, session=desk.session("json")) == 0
    assert desk.client.get("/v1/status")["services"]["catalog"]["state"] == "healthy"


def test_up_and_deploy_bring_it_back() -> None:
    desk = Desk()
    desk.up()
    for services in (None, ("catalog",)):
        desk.client.post("/v1/services/catalog/scale", {"instances": 0})
        desk.plane.run()
        desk.client.post("/v1/apply", desk.session().apply_body(services))
        desk.plane.run()
        found = desk.client.get("/v1/status")["services"]["catalog"]
        assert (found["state"], found["desired"]) == ("healthy", 1)
