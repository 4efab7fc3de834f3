"""What is kept to go back to."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.api.housekeeping import KEPT_RELEASES, housekeeping


class NoArtifacts:
    def prune(self, keep: object) -> None:
        """Nothing is on disk."""


class Room:
    """An application whose catalog is deployed again and again, with housekeeping in between."""

    def __init__(self) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.deploy("good", services=None)

    def deploy(self, version: str, services: tuple[str, ...] | None = ("catalog",)) -> None:
        self.plane.sources.version = version
        self.api.post("/v1/apply", json=body(services=services))
        self.plane.run()
        housekeeping(self.plane.controller, NoArtifacts())

    def restart(self) -> None:
        self.api.post("/v1/services/catalog/restart", json={})
        self.plane.run()
        housekeeping(self.plane.controller, NoArtifacts())

    def abort(self, version: str) -> None:
        self.plane.sources.version = version
        self.api.post("/v1/apply", json=body(services=["catalog"]))
        self.api.post("/v1/services/catalog/abort", json={})
        self.plane.run()
        housekeeping(self.plane.controller, NoArtifacts())

    def rollback(self, to: str | None = None) -> str:
        answer = self.api.post("/v1/services/catalog/rollback", json={"to": to}).json()
        self.plane.run()
        housekeeping(self.plane.controller, NoArtifacts())
        return str(answer["release"])


def test_a_bad_week_does_not_push_out_what_served() -> None:
    room = Room()
    for number in range(KEPT_RELEASES + 2):
        room.plane.bad[f"catalog@bad-{number}"] = "tests"
        room.deploy(f"bad-{number}")
    room.deploy("better")
    assert room.rollback() == "catalog@good"


def test_the_way_back_leads_to_what_served_last_however_old_it_is() -> None:
    room = Room()
    for number in range(KEPT_RELEASES + 2):
        room.deploy(f"v{number}")
    assert room.rollback("v2") == "catalog@v2"
    room.deploy("new")
    assert room.rollback() == "catalog@v2"


def test_the_newest_is_kept_and_shown_though_the_clock_was_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("volery.api.housekeeping.KEPT_ROLLOUTS", 3)
    monkeypatch.setattr("volery.api.housekeeping.KEPT_RELEASES", 0)
    room = Room()
    for number in range(5):
        room.deploy(f"v{number}")
    room.plane.line.jump = -86400.0
    for number in range(2, 5):
        room.deploy(f"w{number}")
        shown = room.api.get("/v1/services/catalog/rollout").json()
        assert (shown["id"], shown["to"]) == (f"catalog-r{number + 5}", f"catalog@w{number}")
    ids = ",".join(room.plane.operations.world.rollouts)
    found = room.api.get("/v1/rollouts", params={"ids": ids}).json()["rollouts"]
    mine = [item["id"] for item in found if item["service"] == "catalog"]
    assert mine == ["catalog-r6", "catalog-r7", "catalog-r8", "catalog-r9"], "and the way back"
    known = {key for key in room.plane.operations.world.releases if key.startswith("catalog@w")}
    assert known == {"catalog@w2", "catalog@w3", "catalog@w4"}, "the way back"


def test_neither_restarts_nor_what_was_aborted_push_out_the_way_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("volery.api.housekeeping.KEPT_ROLLOUTS", 5)
    room = Room()
    room.deploy("bad")
    assert room.rollback() == "catalog@good"
    room.deploy("better")
    for _ in range(6):
        room.restart()
    for number in range(KEPT_RELEASES + 1):
        room.abort(f"aborted-{number}")
    live = room.api.get("/v1/services/catalog/rollout", params={"live": "true"}).json()
    assert (live["to"], live["phase"]) == ("catalog@better", "done")
    assert room.rollback() == "catalog@good", "and not what somebody went back from"


def test_what_no_rollout_tells_of_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volery.api.housekeeping.KEPT_ROLLOUTS", 5)
    room = Room()
    for number in range(KEPT_RELEASES + 8):
        room.deploy(f"v{number}")
    known = {key for key in room.plane.operations.world.releases if key.startswith("catalog@")}
    assert "catalog@v0" not in known and f"catalog@v{KEPT_RELEASES}" in known
    assert len(known) <= KEPT_RELEASES + 5
