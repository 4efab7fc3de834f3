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
