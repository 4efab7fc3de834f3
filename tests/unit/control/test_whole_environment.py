"""All of an environment comes and goes in the order of needs, and nobody goes along with a need.

`store <- menu <- shop`, `shop` can do without `badge`, and `badge` and `shop` need each other.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane

from volery.api.app import create_app
from volery.model.application import Application

APP = {
    "app": "tea",
    "gateway": {"port": 8080, "routes": [{"path": "/", "service": "shop"}]},
    "services": {
        "badge": {"run": "serve", "needs": {"shop": {"importance": "degradable"}}},
        "menu": {"run": "serve", "scale": 2, "needs": {"store": {"importance": "critical"}}},
        "shop": {"run": "serve", "needs": {"menu": {}, "badge": {"importance": "degradable"}}},
        "store": {"run": "serve", "protocol": "tcp", "state": {"volume": "data"}},
    },
}


class Tea:
    """The environment, up."""

    def __init__(self) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        application = Application.model_validate(APP).model_dump(mode="json")
        self.body = {"application": application, "environment": "dev", "root": "/src"}
        self.up()

    def up(self) -> None:
        assert self.api.post("/v1/apply", json=self.body).status_code == 202
        self.until(self.healthy)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(200):
            self.plane.run(0.5)
            if condition():
                return
        raise AssertionError(self.services())

    def healthy(self) -> bool:
        return all(item["state"] == "healthy" for item in self.services().values())

    def services(self) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = self.api.get("/v1/status").json()["services"]
        return found

    def told(self, *kinds: str, after: int = 0) -> list[tuple[str, str]]:
        """Services and kinds of these events, in order."""
        found = self.plane.store.events(after, 10**6)
        return [(str(item.service), item.kind) for item in found if item.kind in kinds]


@pytest.fixture
def tea() -> Tea:
    return Tea()


def before(told: list[tuple[str, str]], first: tuple[str, str], then: tuple[str, str]) -> bool:
    """Whether the last event of one kind comes before the first one of another."""
    last = max(number for number, item in enumerate(told) if item == first)
    return last < told.index(then)


def test_needs_start_first_each_ready_before_its_callers(tea: Tea) -> None:
    told = tea.told("instance.started", "instance.ready")
    for need, caller in (("store", "menu"), ("menu", "shop")):
        assert before(told, (need, "instance.ready"), (caller, "instance.started")), told


def test_callers_stop_first_and_needs_when_nobody_is_left_to_call_them(tea: Tea) -> None:
    assert tea.api.post("/v1/down", json={}).status_code == 202
    tea.until(lambda: tea.plane.operations.gone)
    told = tea.told("instance.draining", "instance.gone")
    for caller, need in (("shop", "menu"), ("menu", "store")):
        assert before(told, (caller, "instance.gone"), (need, "instance.draining")), told
    mark = tea.plane.store.last_seq()
    tea.up()
    again = tea.told("instance.started", "instance.ready", after=mark)
    assert before(again, ("store", "instance.ready"), ("menu", "instance.started")), again


@pytest.mark.parametrize("verb", ["restart", "kill"])
def test_a_need_that_goes_takes_nobody_along(tea: Tea, verb: str) -> None:
    mark = tea.plane.store.last_seq()
    if verb == "restart":
        assert tea.api.post("/v1/services/store/restart", json={}).status_code == 202
        tea.until(lambda: tea.plane.engine.started["store-0"] == 2)
    else:
        tea.plane.engine.exit("store-0", 137)
    tea.until(tea.healthy)
    tea.plane.run(5)
    told = tea.told("instance.started", "instance.stopping", "heal.started", after=mark)
    assert {service for service, _ in told} <= {"store"}, told
    restarted = [key for key, seen in tea.plane.engine.observe().items() if seen.restarts]
    assert restarted == (["store-0"] if verb == "kill" else [])
