"""Draining a fleet: an Envoy that is held up for a moment cuts nobody off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from volery.model.errors import VoleryError
from volery.traffic.admin import AdminError, HostCount
from volery.traffic.envoy import EnvoyTraffic
from volery.traffic.fleet import Fleet
from volery.traffic.proxy import known


@dataclass
class HeldUp:
    """An admin interface that answers every other question; one request is in flight for some."""

    left: int = 4
    asked: list[str] = field(default_factory=list)

    def _turn(self, what: str) -> None:
        self.asked.append(what)
        if len(self.asked) % 2:
            raise AdminError(what)

    async def drain(self) -> None:
        self._turn("drain")

    async def hosts(self) -> dict[tuple[str, str], HostCount]:
        self._turn("hosts")
        self.left -= 1
        return {("web~a", "web-1"): HostCount(requests=max(0, self.left))}


@dataclass
class OneProxy:
    admin: HeldUp
    number: int = 1
    pid: int = 1


def test_one_that_is_held_up_is_asked_again_until_nothing_is_in_flight(tmp_path: Path) -> None:
    admin = HeldUp()
    fleet = Fleet(tmp_path, drain_seconds=60.0)
    proxies: Any = [OneProxy(admin)]
    fleet._proxies = proxies
    asyncio.run(fleet.drain())
    assert admin.left == 0
    assert admin.asked.count("drain") == 2, "once in vain, and told only once"


def test_what_is_not_ours_among_the_proxies_is_left_alone(tmp_path: Path) -> None:
    for name in ("2", "10", "lost+found", "3 (copy)"):
        (tmp_path / "envoy" / name).mkdir(parents=True)
    assert [proxy.number for proxy in known(tmp_path)] == [2, 10]


def test_one_that_is_held_up_is_not_replaced_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = EnvoyTraffic(tmp_path, lambda: None)

    async def held_up(_: object) -> None:
        raise AdminError("1: TimeoutError()")

    monkeypatch.setattr(traffic._fleet, "replace", held_up)
    with pytest.raises(VoleryError, match="does not answer") as raised:
        asyncio.run(traffic.replace())
    assert "volery restart gateway" in raised.value.hint
