"""`up`: how long it waits."""

from __future__ import annotations

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.shipping import up
from volery.model.errors import Code, VoleryError


def test_it_waits_no_longer_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all rollouts are done, and something else is not there."""
    monkeypatch.setattr("volery.api.launch.ensure_control_plane", lambda home: False)
    desk = Desk()
    desk.manifest = desk.manifest | {"environments": {"dev": {}}}
    desk.up()
    monkeypatch.setattr(desk.plane, "gateway_ready", lambda: False)
    with pytest.raises(VoleryError) as late:
        up(timeout="200ms", session=desk.session())
    assert late.value.message == "not healthy in the time given: gateway"
    assert late.value.code is Code.INCONCLUSIVE


def test_it_does_not_wait_for_what_it_removes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open connections may drain for long."""
    monkeypatch.setattr("volery.api.launch.ensure_control_plane", lambda home: False)
    desk = Desk()
    desk.manifest = desk.manifest | {"environments": {"dev": {}}}
    catalog = desk.manifest["services"]["catalog"]
    shop = {"run": "serve", "stop": {"drain": "1h"}}
    desk.manifest = desk.manifest | {"services": {"catalog": catalog, "shop": shop}}
    desk.up()
    for identity in desk.plane.operations.world.instances:
        desk.plane.traffic.in_flight[identity] = 1
    desk.manifest = desk.manifest | {"services": {"catalog": catalog}, "gateway": {"routes": []}}
    assert up(timeout="200ms", session=desk.session()) == 0
    assert "shop" in desk.client.get("/v1/status")["services"]


def test_nor_for_what_an_earlier_up_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stayed for its caller at first, and goes when that needs it no more."""
    monkeypatch.setattr("volery.api.launch.ensure_control_plane", lambda home: False)
    desk = Desk()
    services = desk.manifest["services"] | {"catalog": {"run": "serve", "stop": {"drain": "1h"}}}
    desk.manifest = desk.manifest | {"environments": {"dev": {}}, "services": services}
    desk.up()
    for identity, item in desk.plane.operations.world.instances.items():
        if item.service == "catalog":
            desk.plane.traffic.in_flight[identity] = 1
    desk.plane.bad = {"shop@bbbbbbbb": "tests"}
    desk.manifest = desk.manifest | {"services": {"shop": {"run": "serve", "scale": 2}}}
    desk.up("bbbbbbbb")
    stays = desk.client.get("/v1/status")["services"]["catalog"]["removed"]
    assert "stays while shop@aaaaaaaa" in stays
    desk.plane.sources.version = "cccccccc"
    assert up(timeout="20s", session=desk.session()) == 0
    left = desk.client.get("/v1/status")["services"]["catalog"]
    assert (left["state"], "is going" in left["removed"]) == ("leaving", True)
