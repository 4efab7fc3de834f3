"""`events -f` goes on from now, after the last few, and never replays the whole past."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.looking import events


@pytest.fixture
def desk() -> Desk:
    """An environment with a past that is longer than a tail."""
    found = Desk()
    found.up()
    for _ in range(2):
        found.client.post("/v1/services/catalog/restart")
        found.plane.run()
    return found


def printed(desk: Desk, capsys: pytest.CaptureFixture[str], *about: str, **how: Any) -> list[Any]:
    capsys.readouterr()
    events(*about, session=desk.session("json"), **how)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_last_few_and_then_what_happens(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    past = printed(desk, capsys)
    assert len(past) > 20
    looks: list[float] = []

    async def changed(seconds: float) -> None:
        if looks:
            desk.plane.stopping.set()
        else:
            desk.plane.operations.scale("catalog", 3, "somebody")
        looks.append(seconds)

    monkeypatch.setattr(desk.plane, "changed", changed)
    found = printed(desk, capsys, follow=True)
    assert found[:-1] == past[-10:]
    assert found[-1]["kind"] == "service.scaled" and found[-1]["seq"] == past[-1]["seq"] + 1


@pytest.mark.parametrize("limit", [0, 3])
def test_as_many_as_asked_for(desk: Desk, capsys: pytest.CaptureFixture[str], limit: int) -> None:
    past = printed(desk, capsys)
    wanted = past[len(past) - limit :]
    assert printed(desk, capsys, follow=True, limit=limit) == wanted
    assert printed(desk, capsys, limit=limit) == wanted


def test_since_a_moment(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.plane.line.jump += 3600
    desk.client.post("/v1/services/catalog/scale", {"instances": 2})
    desk.plane.run()
    hour = desk.plane.line.now() - 600
    late = desk.client.get("/v1/events", service="catalog", since=hour)["events"]
    assert {item["kind"] for item in late} == {
        "service.scaled",
        "instance.started",
        "instance.ready",
    }
    # Simulated time is ahead of ours: everything happened in the last ten minutes.
    everything = printed(desk, capsys)
    assert printed(desk, capsys, follow=True, since="10m") == everything
