"""`scale`: what it waits for is told, and it ends with the reason when instances do not come up."""

from __future__ import annotations

from typing import Any

import pytest
from simulation.adapters import Behaviour
from unit.cli.desk import Desk

from volery.cli.commands.acting import scale
from volery.cli.commands.looking import status
from volery.model.errors import Code, VoleryError


@pytest.fixture
def desk() -> Desk:
    found = Desk()
    found.up()
    return found


def test_progress_is_told(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.plane.engine.behaviour = lambda release: Behaviour(start_seconds=2.0)
    assert scale("shop", 3, session=desk.session()) == 0
    said = capsys.readouterr()
    assert "2 of 3 ready; shop-aaaaaaaa-3 starting" in said.err
    assert said.out == "shop has 3 instances\n"


def test_one_that_crashes_ends_it_with_its_reason(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plane.engine.behaviour = lambda release: Behaviour("crash")
    with pytest.raises(VoleryError) as raised:
        scale("shop", 3, session=desk.session())
    assert "2 of 3 ready" in raised.value.message and "exit code 1" in raised.value.message
    assert raised.value.code is Code.FAILED and "volery logs shop" in raised.value.hint
    assert "| hello" in capsys.readouterr().err, "its last words"
    status("shop", session=desk.session())
    shown = capsys.readouterr().out
    assert "shop-aaaaaaaa-3 ended while starting: exit code 1" in shown
    assert "times in a row" in shown


def test_one_that_cannot_be_asked_for_says_why(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise VoleryError("secret KEY is not set")

    monkeypatch.setattr("volery.cli.standing.TROUBLE_SECONDS", 0.2)
    start = desk.plane.engine.start
    monkeypatch.setattr(desk.plane.engine, "start", refuse)
    with pytest.raises(VoleryError, match="shop-aaaaaaaa-3 failed: secret KEY is not set"):
        scale("shop", 3, session=desk.session())
    shop = desk.client.get("/v1/status")["services"]["shop"]["instances"]
    assert [(item["state"], item["detail"]) for item in shop[2:]] == [
        ("failed", "secret KEY is not set")
    ]
    events = desk.client.get("/v1/events")["events"]
    kinds = [item["kind"] for item in events if item["instance"] == "shop-aaaaaaaa-3"]
    assert kinds == ["instance.started", "instance.unstartable"], "told once"
    monkeypatch.setattr(desk.plane.engine, "start", start)
    assert scale("shop", 3, session=desk.session()) == 0


def test_the_time_is_over(desk: Desk) -> None:
    desk.plane.engine.behaviour = lambda release: Behaviour("never-ready")
    with pytest.raises(VoleryError, match="not finished after 50ms, it goes on") as raised:
        scale("shop", 3, timeout="50ms", session=desk.session())
    assert raised.value.code is Code.INCONCLUSIVE


def test_a_warm_group_is_told_and_not_waited_for(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.manifest = desk.manifest | {
        "services": desk.manifest["services"]
        | {"catalog": {"run": "serve", "deploy": {"strategy": "blue-green"}}}
    }
    desk.up("bbbbbbbb")
    desk.plane.run(15)
    assert len(desk.client.get("/v1/status")["services"]["catalog"]["instances"]) == 2
    status(session=desk.session())
    shown = capsys.readouterr().out
    assert "catalog: catalog@aaaaaaaa is warm until 20" in shown and "0 % of requests" in shown
    live = desk.client.get("/v1/status")["services"]["catalog"]["instances"][-1]
    assert (live["weight"], live["warm_until"]) == (100, None)
    assert scale("catalog", 2, timeout="20s", session=desk.session()) == 0


def test_less_than_nothing_is_refused(desk: Desk) -> None:
    with pytest.raises(VoleryError, match="must be 0 or more, got -1") as raised:
        scale("shop", -1, session=desk.session())
    assert raised.value.code is Code.INVALID and "scale shop 0" in raised.value.hint


def floored(desk: Desk, floor: int, **more: Any) -> Desk:
    """The shop of three has a floor."""
    shop = desk.manifest["services"]["shop"] | {"scale": 3, "floor": floor} | more
    desk.manifest = desk.manifest | {"services": desk.manifest["services"] | {"shop": shop}}
    desk.up()
    return desk


@pytest.mark.parametrize("more", [{}, {"deploy": {"strategy": "recreate"}}])
def test_below_its_floor_is_refused_unless_somebody_insists(
    desk: Desk, more: dict[str, Any]
) -> None:
    floored(desk, 3, **more)
    before = desk.plane.store.last_seq()
    for count in (2, 0):
        with pytest.raises(VoleryError, match=f"would have {count} .* its floor is 3") as raised:
            scale("shop", count, session=desk.session())
        assert raised.value.code is Code.REFUSED
        assert "`floor`" in raised.value.hint and "--yes" in raised.value.hint
    assert desk.plane.store.last_seq() == before
    session = desk.session()
    session.yes = True
    assert scale("shop", 2, session=session) == 0
    with pytest.raises(VoleryError, match="its floor is 3"):
        scale("shop", 1, session=desk.session())
    assert scale("shop", 2, session=desk.session()) == 0, "no fewer than there are"
    assert scale("shop", 4, session=desk.session()) == 0
    assert scale("shop", 3, session=desk.session()) == 0


def test_without_a_written_floor_it_may_be_nothing(desk: Desk) -> None:
    assert scale("shop", 0, session=desk.session()) == 0


def test_a_service_with_a_host_alone_has_an_address(desk: Desk) -> None:
    routes = [{"host": "api.example.org", "path": "/v1", "service": "catalog"}]
    desk.manifest = desk.manifest | {"gateway": {"port": 8080, "routes": routes}}
    desk.up()
    found = desk.client.get("/v1/status")["services"]
    assert found["catalog"]["url"] == "http://api.example.org:8080/v1"
    assert found["shop"]["url"] is None


def test_too_many_are_refused_in_the_words_of_a_person(desk: Desk) -> None:
    with pytest.raises(VoleryError, match="scale must be 0 to 1000, got 5000") as refused:
        scale("shop", 5000, session=desk.session())
    assert refused.value.hint == "volery scale shop 1000"


@pytest.mark.parametrize("verb", ["scale", "restart", "rollback", "switchover"])
def test_what_is_being_taken_down_is_not_changed(desk: Desk, verb: str) -> None:
    desk.client.post("/v1/down", {"by": "ann"})
    body = {"instances": 2} if verb == "scale" else {}
    with pytest.raises(VoleryError, match="environment dev is not up") as refused:
        desk.client.post(f"/v1/services/catalog/{verb}", body)
    assert (refused.value.code, refused.value.hint) == (Code.CONFLICT, "volery up")
