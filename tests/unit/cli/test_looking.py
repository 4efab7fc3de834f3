"""`status`, and the names of services and releases that nobody knows."""

from __future__ import annotations

import pytest
from unit.cli.desk import Desk

from volery.cli.commands.looking import status
from volery.cli.commands.shipping import deploy
from volery.model.errors import Code, VoleryError


@pytest.fixture
def desk() -> Desk:
    found = Desk()
    found.up()
    return found


@pytest.mark.parametrize(
    ("name", "hint"), [("catalgo", "did you mean catalog?"), ("x", "known: catalog, shop")]
)
def test_a_service_nobody_knows(desk: Desk, name: str, hint: str) -> None:
    with pytest.raises(VoleryError, match=f"no service '{name}'") as unknown:
        status(name, session=desk.session())
    assert (unknown.value.code, unknown.value.hint) == (Code.NOT_FOUND, hint)


def test_a_release_nobody_knows_or_that_may_be_several(desk: Desk) -> None:
    desk.up("aaaabbbb")
    with pytest.raises(VoleryError) as unknown:
        deploy("catalog", release="nope", session=desk.session())
    assert unknown.value.message == "no release nope of catalog"
    assert unknown.value.hint == "volery releases catalog: catalog@aaaabbbb, catalog@aaaaaaaa"
    with pytest.raises(VoleryError) as several:
        deploy("catalog", release="aaaa", session=desk.session())
    assert several.value.message == "aaaa may be catalog@aaaabbbb or catalog@aaaaaaaa"


def test_the_releases_of_a_service_that_left_the_manifest(desk: Desk) -> None:
    services = desk.manifest["services"]
    desk.manifest = desk.manifest | {"services": {"shop": services["shop"] | {"needs": []}}}
    desk.up(version="bbbbbbbb")
    assert "catalog" not in desk.client.get("/v1/status")["services"]
    found = desk.client.get("/v1/services/catalog/releases")["releases"]
    assert {item["release"]: item["state"] for item in found} == {"catalog@aaaaaaaa": "kept"}
