"""The API over a simulated machine room: the contract's shapes, refusals, the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from unit.api.plane import SimPlane, body

from volery.api.app import ENDPOINTS, create_app
from volery.model.state import Event


@pytest.fixture
def plane() -> SimPlane:
    return SimPlane()


@pytest.fixture
def api(plane: SimPlane) -> Iterator[TestClient]:
    with TestClient(create_app(plane)) as client:
        yield client


def test_up_then_status_has_the_contracts_fields(plane: SimPlane, api: TestClient) -> None:
    accepted = api.post("/v1/apply", json=body())
    assert accepted.status_code == 202
    assert accepted.json()["rollouts"] == ["catalog-r1", "shop-r1"]
    plane.run()
    status = api.get("/v1/status").json()
    assert status["app"] == "birds" and status["environment"] == "dev"
    assert status["gateway"]["url"] == "http://127.0.0.1:8080"
    shop = status["services"]["shop"]
    assert shop["state"] == "healthy" and shop["desired"] == 2 and shop["rollout"] is None
    assert shop["release"] == "shop@aaaaaaaa"
    first = shop["instances"][0]
    assert first["id"] == "shop-aaaaaaaa-1" and first["track"] == "stable"
    assert first["state"] == "ready" and first["address"].startswith("127.0.0.1:")
    assert first["started_at"].endswith("Z")


def test_applying_the_same_again_begins_nothing(plane: SimPlane, api: TestClient) -> None:
    api.post("/v1/apply", json=body())
    again = api.post("/v1/apply", json=body()).json()
    assert again["rollouts"] == ["catalog-r1", "shop-r1"], "those under way are joined"
    plane.run()
    assert api.post("/v1/apply", json=body()).json()["rollouts"] == []


def test_a_rollout_tells_everything(plane: SimPlane, api: TestClient) -> None:
    api.post("/v1/apply", json=body())
    plane.run()
    plane.sources.version = "bbbbbbbb"
    begun = api.post("/v1/apply", json=body(services=["catalog"])).json()
    assert begun["rollouts"] == ["catalog-r2"]
    plane.run()
    rollout = api.get("/v1/services/catalog/rollout").json()
    assert rollout["phase"] == "done" and rollout["weight"] == 100
    assert (rollout["from"], rollout["to"]) == ("catalog@aaaaaaaa", "catalog@bbbbbbbb")
    assert set(rollout["seconds"]) == {"build", "test", "start", "shift"}
    releases = api.get("/v1/services/catalog/releases").json()["releases"]
    assert [item["state"] for item in releases] == ["live", "kept"]
    back = api.post("/v1/services/catalog/rollback", json={}).json()
    plane.run()
    found = api.get("/v1/rollouts", params={"ids": back["rollouts"][0]}).json()["rollouts"]
    assert found[0]["phase"] == "done" and found[0]["to"] == "catalog@aaaaaaaa"


@pytest.mark.parametrize("path", ["/v1/status", "/v1/rollouts"])
def test_who_waits_is_told_when_something_changed(
    plane: SimPlane, api: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    api.post("/v1/apply", json=body())
    ask = {"ids": "shop-r1,catalog-r1"}
    first = api.get(path, params=ask | {"unless": ""}).json()
    looks: list[float] = []

    async def changed(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            plane.run(2.0)

    monkeypatch.setattr(plane, "changed", changed)
    second = api.get(path, params=ask | {"unless": first["version"]}).json()
    assert len(looks) == 3 and second["version"] != first["version"]
    late = api.get(path, params=ask | {"unless": second["version"], "wait": "0"}).json()
    assert late == second and len(looks) == 3
    assert "version" not in api.get(path, params=ask).json()


def test_a_port_in_use_names_the_place_and_both_remedies(api: TestClient) -> None:
    found = body()
    found["application"]["gateway"]["port"] = 1
    refused = api.post("/v1/apply", json=found).json()["error"]
    assert refused["message"] == "port 1 is in use" and refused["where"] == "gateway.port"
    assert "environments.dev.gateway_port" in refused["hint"]
    found["application"]["environments"]["dev"]["gateway_port"] = 1
    refused = api.post("/v1/apply", json=found).json()["error"]
    assert refused["where"] == "environments.dev.gateway_port"


def test_events_are_told_with_cause(plane: SimPlane, api: TestClient) -> None:
    api.post("/v1/apply", json=body())
    plane.run()
    events = api.get("/v1/events", params={"service": "catalog"}).json()["events"]
    assert events and all(item["service"] == "catalog" for item in events)
    assert {"at", "kind", "text", "cause", "data"} <= set(events[0])
    with api.stream("GET", "/v1/events", params={"follow": "true"}) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert len(lines) == len(api.get("/v1/events").json()["events"])


def test_the_past_of_a_service_that_left_is_told(plane: SimPlane, api: TestClient) -> None:
    api.post("/v1/apply", json=body())
    plane.run()
    left = body()
    del left["application"]["services"]["shop"]
    left["application"]["gateway"]["routes"] = []
    api.post("/v1/apply", json=left)
    plane.run(60)
    assert "shop" not in api.get("/v1/status").json()["services"]
    events = api.get("/v1/events", params={"service": "shop"}).json()["events"]
    assert events and {item["service"] for item in events} == {"shop"}
    with api.stream("GET", "/v1/services/shop/logs") as stream:
        assert "hello" in "".join(stream.iter_lines())
    assert api.get("/v1/services/shop/why").json()["chapters"]
    assert api.get("/v1/services/shop/rollout").json()["id"] == "shop-r1"
    for path in ("/v1/services/shp/logs", "/v1/services/shp/rollout", "/v1/services/shp/why"):
        assert api.get(path).json()["error"]["message"] == "no service 'shp'"
    refused = api.post("/v1/services/shop/restart", json={}).json()["error"]
    assert refused["message"] == "no service 'shop'"


def test_no_lines_of_the_past_are_not_all_of_them(plane: SimPlane, api: TestClient) -> None:
    api.post("/v1/apply", json=body())
    for query, lines in (("", None), ("?lines=0", 0), ("?lines=5", 5)):
        api.get(f"/v1/services/shop/logs{query}")
        assert plane.asked_of_logs is not None and plane.asked_of_logs.lines == lines


REFUSALS = [
    ("POST", "/v1/apply", b"{", 422),
    ("POST", "/v1/apply", b'{"application": 3}', 422),
    ("POST", "/v1/apply", b"x" * 5_000_000, 422),
    ("GET", "/v1/services/nope/rollout", None, 404),
    ("POST", "/v1/services/nope/rollback", b"{}", 404),
    ("POST", "/v1/services/catalog/pause", b"{}", 409),
    ("POST", "/v1/services/catalog/scale", b'{"instances": -1}', 422),
    ("POST", "/v1/services/catalog/scale", b'{"instances": 5000}', 422),
    ("GET", "/v1/nothing", None, 404),
    ("GET", "/v1/events?after=x", None, 422),
    ("GET", "/v1/events?since=yesterday", None, 422),
    ("GET", "/v1/services/catalog/logs?since=x", None, 422),
    ("GET", "/v1/services/catalog/logs?lines=many", None, 422),
    ("GET", "/v1/services/catalog/logs?lines=-5", None, 422),
]


@pytest.mark.parametrize(("method", "path", "content", "status"), REFUSALS)
def test_refusals_are_one_clear_object(
    plane: SimPlane, api: TestClient, method: str, path: str, content: bytes | None, status: int
) -> None:
    api.post("/v1/apply", json=body())
    plane.run()
    answer = api.request(method, path, content=content)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint", "where"} and error["message"]


WORDS = [
    ("scale", b'{"instances": "many"}', "instances", "must be a whole number"),
    ("scale", b'{"instances": 1.5}', "instances", "must be a whole number"),
    ("scale", b'{"instances": -1}', "instances", "must be at least 0"),
    ("scale", b"{}", "instances", "is missing"),
    ("scale", b'{"instances": 1, "count": 2}', "count", "is not known here"),
    ("scale", b'{"instances": 1', "", "the body is no JSON: EOF while parsing an object at"),
    ("rollback", b'{"to": ""}', "to", "must not be empty"),
    ("restart", b"[]", "", "must be a mapping"),
    ("restart", b'{"by": 3}', "by", "must be text"),
    ("restart", b'{"by": "' + b"x" * 201 + b'"}', "by", "must have at most 200 characters"),
]


@pytest.mark.parametrize(("verb", "content", "where", "message"), WORDS)
def test_what_is_wrong_with_a_body_is_said_in_our_words(
    api: TestClient, verb: str, content: bytes, where: str, message: str
) -> None:
    answer = api.post(f"/v1/services/catalog/{verb}", content=content)
    error = answer.json()["error"]
    assert answer.status_code == 422 and error["where"] == where and error["hint"]
    assert error["message"].startswith(message), error
    assert "nput" not in error["message"] and "tring" not in error["message"]


CONTRADICTIONS = [
    ({"environment": "prod"}, "environment", "no environment 'prod' in the manifest"),
    ({"release": ""}, "release", "must not be empty"),
    ({"services": ["Shop"]}, "", "no service 'Shop'"),
    (
        {"environments": {"dev": {"overrides": {"x": {}}}}},
        "environments.dev.overrides.x",
        "unknown",
    ),
    (
        {"services.catalog.needs": {"shop": {}}},
        "services.shop.needs.catalog",
        "needs go in a circle",
    ),
]


@pytest.mark.parametrize("path", ["/v1/plan", "/v1/apply"])
@pytest.mark.parametrize(("change", "where", "message"), CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused(
    api: TestClient, path: str, change: dict[str, Any], where: str, message: str
) -> None:
    sent = body()
    for key, value in change.items():
        if key == "environments":
            sent["application"][key] = value
        elif key == "services.catalog.needs":
            sent["application"]["services"]["catalog"]["needs"] = value
        else:
            sent[key] = value
    answer = api.post(path, json=sent)
    error = answer.json()["error"]
    assert answer.status_code in (404, 422) and error["where"] == where, error
    assert error["message"].startswith(message)


def test_another_environment_has_a_control_plane_of_its_own(
    plane: SimPlane, api: TestClient
) -> None:
    api.post("/v1/apply", json=body())
    other = body(environment="staging")
    other["application"]["environments"] = {"dev": {}, "staging": {}}
    for path in ("/v1/plan", "/v1/apply"):
        error = api.post(path, json=other).json()["error"]
        assert error["message"] == "this is the control plane of dev of birds"
        assert (error["code"], error["where"]) == ("invalid", "environment")


def test_refused_before_anything_changes(plane: SimPlane, api: TestClient) -> None:
    assert api.get("/v1/status").status_code == 409
    missing = body()
    missing["application"]["services"]["shop"]["secrets"] = ["MISSING"]
    refused = api.post("/v1/apply", json=missing)
    assert "secret MISSING of shop is not set" in refused.json()["error"]["message"]
    taken = body()
    taken["application"]["gateway"]["port"] = 1
    assert api.post("/v1/apply", json=taken).status_code == 409
    assert api.post("/v1/apply", json=body(services=["shop"])).status_code == 409
    assert not plane.store.documents("service")


def test_down_ends_everything(plane: SimPlane, api: TestClient) -> None:
    api.post("/v1/apply", json=body())
    plane.run()
    api.post("/v1/down", json={})
    plane.run()
    assert api.get("/v1/gone").json() == {"gone": True, "up": False, "instances": []}


def test_nothing_is_gone_while_somebody_brings_it_up(
    plane: SimPlane, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes it down must not end the control plane that is just being asked."""
    told: list[bool] = []
    digest = plane.sources.digest

    async def slow(*given: Any) -> str:
        told.append(plane.operations.gone)
        return await digest(*given)

    monkeypatch.setattr(plane.sources, "digest", slow)
    assert api.get("/v1/gone").json()["gone"]
    api.post("/v1/apply", json=body())
    assert told == [False, False] and api.get("/v1/gone").json()["up"]


def test_the_openapi_document_names_every_endpoint(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    for item in ENDPOINTS:
        assert item.method.lower() in document["paths"][item.path]
    references = [part for part in str(document).split("'") if part.startswith("#/components/")]
    for reference in references:
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference


def test_the_openapi_document_says_what_is_done_at_once(api: TestClient) -> None:
    stopped = api.post("/v1/guard/stop", json={"by": "sam"})
    told = api.get("/openapi.json").json()["paths"]["/v1/guard/stop"]["post"]["responses"]
    assert str(stopped.status_code) in told


@pytest.mark.parametrize("until", [1e300, -1.0, "nan"])
def test_a_moment_that_no_calendar_has_is_refused(api: TestClient, until: object) -> None:
    body = {"deed": "deleted", "volumes": {"db/data-0@5": until}, "by": "sam"}
    refused = api.post("/v1/volumes", json=body)
    assert refused.status_code == 422 and refused.json()["error"]["where"].startswith("volumes")


def test_a_moment_is_told(plane: SimPlane, api: TestClient) -> None:
    body = {"deed": "deleted", "volumes": {"db/data-0@5": 253402300799.0}, "by": "sam"}
    assert api.post("/v1/volumes", json=body).status_code == 202
    (event,) = plane.store.events(0, 10)
    assert "until 9999-12-31" in event.text


def test_others_have_their_turn_while_many_events_are_told(
    plane: SimPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.store.commit([], [Event(float(number), "test", "x") for number in range(5000)])
    turns, at_page, latest = 0, [], plane.store.latest

    def counted(*asked: Any) -> Sequence[Event]:
        at_page.append(turns)
        return latest(*asked)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> list[int]:
        beside = asyncio.create_task(others())
        transport = httpx2.ASGITransport(create_app(plane))
        async with httpx2.AsyncClient(transport=transport, base_url="http://volery") as client:
            answer = (await client.get("/v1/events", params={"limit": "1000000"})).json()
        beside.cancel()
        return [item["seq"] for item in answer["events"]]

    monkeypatch.setattr(plane.store, "latest", counted)
    assert asyncio.run(scenario()) == list(range(1, 5001))
    assert len(at_page) >= 10 and len(set(at_page)) == len(at_page)
