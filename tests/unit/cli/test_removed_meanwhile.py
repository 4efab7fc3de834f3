"""Somebody removes a service while another command waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.acting import scale
from volery.cli.commands.shipping import up
from volery.cli.commands.switching import switchover
from volery.model.errors import Code, VoleryError

NEWS = {"version": "1", "services": {"db": {"primary": None}}}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("volery.api.launch.ensure_control_plane", lambda home: False)
    found = Desk()
    found.manifest = found.manifest | {"environments": {"dev": {}}}
    return found


def remove_shop(desk: Desk, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """When this is asked for first."""
    get, asked = desk.client.get, list[str]()
    services = {"catalog": desk.manifest["services"]["catalog"]}
    gone = desk.manifest | {"services": services, "gateway": {"routes": []}}

    def hooked(path: str, **query: object) -> Any:
        if path == at and not asked:
            asked.append(path)
            before, desk.manifest = desk.manifest, gone
            desk.up()
            desk.manifest = before
        return get(path, **query)

    monkeypatch.setattr(desk.client, "get", hooked)


def test_scale(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.up()
    remove_shop(desk, monkeypatch, "/v1/status")
    with pytest.raises(VoleryError, match=r"^shop was removed meanwhile$") as raised:
        scale("shop", 5, session=desk.session())
    assert raised.value.code is Code.CONFLICT


def test_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remove_shop(desk, monkeypatch, "/v1/rollouts")
    assert up(session=desk.session()) == 1
    assert "shop was removed meanwhile\n" in capsys.readouterr().err


def test_switchover_where_the_roles_went(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.client, "post", lambda path, body: {"handover": 1})
    monkeypatch.setattr(desk.client, "get", lambda path, **query: NEWS)
    with pytest.raises(VoleryError, match=r"^db has no roles any more$"):
        switchover("db", session=desk.session())
