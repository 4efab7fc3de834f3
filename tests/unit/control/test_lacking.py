"""A rollout of a service whose need is down."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.adapters import Behaviour
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import create_app
from volery.model.state import Phase, Rollout

BAD = "shop@bbbbbbbb"


class Shop:
    """A new release of `shop`, which needs `catalog`."""

    def __init__(self, strategy: str) -> None:
        self.plane = SimPlane()
        self.api = TestClient(create_app(self.plane))
        self.api.post("/v1/apply", json=body())
        self.plane.run()
        self.plane.sources.version = "bbbbbbbb"
        sent = body(services=["shop"], strategy=strategy)
        sent["application"]["services"]["shop"]["health"] = {"startup": "5s"}
        assert self.api.post("/v1/apply", json=sent).status_code == 202

    @property
    def rollout(self) -> Rollout:
        return self.plane.operations.world.rollouts["shop-r2"]

    def until(self, phase: Phase) -> None:
        for _ in range(100):
            if self.rollout.phase is phase:
                return
            self.plane.run(0.1)
        raise AssertionError(self.rollout)

    def ready(self, service: str, state: str = "ready", release: str = BAD) -> None:
        """All of a service is, or is not; of shop, of a release."""
        release = release if service == "shop" else ""
        for item in self.plane.operations.world.instances_of(service):
            process = self.plane.engine.processes[item.id]
            if item.release == release or not release:
                process.seen = replace(process.seen, state=state)  # type: ignore[arg-type]


def test_a_canary_that_is_unready_with_its_need_goes_on_when_that_is_back() -> None:
    shop = Shop("canary")
    shop.until(Phase.ANALYSING)
    shop.ready("catalog", "unready")
    shop.ready("shop", "unready")
    shop.plane.run(5)
    shop.ready("catalog")
    shop.plane.run(20)
    assert shop.rollout.phase is Phase.ANALYSING
    shop.ready("shop")
    shop.plane.run(20)
    assert shop.rollout.phase is Phase.ANALYSING


def test_a_canary_that_is_unready_by_itself_goes_back() -> None:
    shop = Shop("canary")
    shop.until(Phase.ANALYSING)
    shop.ready("shop", "unready")
    shop.plane.run(5)
    assert shop.rollout.phase is Phase.ROLLED_BACK and shop.rollout.verdict == "abort"


@pytest.mark.parametrize("lacking", [True, False])
def test_no_step_is_passed_unseen_while_the_old_release_lacks_its_need(lacking: bool) -> None:
    """It will be back with its need. Without an excuse the new one is its remedy."""
    shop = Shop("canary")
    shop.until(Phase.ANALYSING)
    step = shop.rollout.step
    shop.ready("shop", "unready", "shop@aaaaaaaa")
    if lacking:
        shop.ready("catalog", "unready")
    shop.plane.run(60)
    assert (shop.rollout.step > step or shop.rollout.ended) != lacking
    if lacking:
        shop.ready("catalog")
        shop.plane.run(20)
        shop.ready("shop", release="shop@aaaaaaaa")
        shop.plane.run(20)
        assert (shop.rollout.phase, shop.rollout.step) == (Phase.ANALYSING, step)


@pytest.mark.parametrize("lacking", [True, False])
def test_one_that_does_not_get_ready_for_want_of_its_need_goes_back_and_is_not_refused(
    lacking: bool,
) -> None:
    shop = Shop("rolling")
    shop.plane.engine.behaviour = lambda release: Behaviour("never-ready")
    if lacking:
        shop.ready("catalog", "unready")
    shop.plane.run(10)
    assert shop.rollout.phase is Phase.ROLLED_BACK
    state = shop.plane.operations.world.releases[BAD].state
    assert state == ("built" if lacking else "refused")
