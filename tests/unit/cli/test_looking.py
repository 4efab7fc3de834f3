"""`status`, and the names of services and releases that nobody knows."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from rich.console import Console
from unit.cli.desk import Desk

from volery.cli.commands.looking import logs, status
from volery.cli.commands.shipping import deploy
from volery.cli.show import console, table, tables
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


def test_why_a_service_is_down_that_never_came_up(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    desk.plane.bad["catalog@aaaaaaaa"] = "tests"
    desk.up()
    for service in ("catalog", None):
        status(service, session=desk.session())
        said = capsys.readouterr().out
        assert "catalog: catalog@aaaaaaaa was refused: " in said, said
        assert "see: volery rollout catalog" in said
    assert "shop@aaaaaaaa was taken back: catalog failed: " in said
    steps = desk.client.post("/v1/plan", desk.session().apply_body())["steps"]
    assert steps[0]["text"].startswith("[1] start catalog: catalog@aaaaaaaa, it was refused: ")
    desk.plane.bad.clear()
    desk.up()
    status(session=desk.session())
    assert "refused" not in capsys.readouterr().out


def test_what_leaves_is_the_last_and_nothing_to_worry_about(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    services = desk.manifest["services"]
    desk.manifest = desk.manifest | {"services": {"shop": services["shop"] | {"needs": []}}}
    desk.plane.sources.version = "bbbbbbbb"
    desk.client.post("/v1/apply", desk.session().apply_body())
    seen = set()
    for _ in range(300):
        found = desk.client.get("/v1/status")
        if "catalog" not in found["services"]:
            break
        seen.add(found["services"]["catalog"]["state"])
        tables.show_status(found)
        if "leaving" in seen:
            rows = capsys.readouterr().out.splitlines()[2:4]
            assert [row.split()[0] for row in rows] == ["shop", "catalog"]
    else:
        raise AssertionError("never")
    assert seen == {"healthy", "leaving"}


def test_one_service_is_shown_with_its_brake(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.client.post("/v1/guard/stop", {"service": "shop", "by": "ann"})
    status("shop", session=desk.session())
    assert "the automation of shop stands still until " in capsys.readouterr().out
    status("catalog", session=desk.session())
    assert "stands still" not in capsys.readouterr().out
    desk.client.post("/v1/guard/stop", {"service": None, "by": "ann"})
    status("catalog", session=desk.session())
    assert "all automation stands still until " in capsys.readouterr().out


def test_fewer_lines_than_none_are_refused(desk: Desk) -> None:
    with pytest.raises(VoleryError, match="--lines must be 0 or more, got -5") as refused:
        logs("shop", lines=-5, session=desk.session())
    assert refused.value.code is Code.INVALID


class Screen(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


NAMES = ["storefront@3f2a91c0", "catalog@5b21ffe0", "storefront-3f2a91c0-1"]
KEPT = {"created_at": "2026-01-01T00:00:00Z", "by": "maintainer", "reason": ""}
WHY = "the new release fails its requests: " + "35 % of 77, " * 20
RELEASES = {
    "releases": [
        KEPT | {"release": NAMES[0], "state": "live"},
        KEPT | {"release": NAMES[1], "state": "refused", "reason": WHY},
    ]
}
SERVICE = {
    "state": "degraded",
    "release": NAMES[0],
    "desired": 2,
    "restarts": 1203,
    "url": "http://127.0.0.1:8080/api/storefront/with/a/long/path",
    "trouble": None,
    "primary": None,
    "removed": None,
    "rollout": None,
    "waiting": [],
    "instances": [
        {
            "id": NAMES[2],
            "release": NAMES[0],
            "track": "baseline",
            "state": "stopping",
            "pid": 4194304,
            "address": "127.0.0.1:20011",
            "restarts": 12,
            "role": None,
            "weight": 50,
            "warm_until": None,
            "started_at": "2026-01-01T00:00:00Z",
            "detail": "",
            "limits": {"cpu": "enforced by the kernel", "memory": "enforced by the kernel"},
        }
    ],
}
STATUS = {
    "app": "birdhouse",
    "environment": "production",
    "engine": "local",
    "gateway": {"url": "http://127.0.0.1:8080", "state": "ready"},
    "guard": {"brakes": []},
    "services": {"storefront": SERVICE},
}


@pytest.mark.parametrize("columns", [40, 80, 120, None])
@pytest.mark.parametrize(
    ("show", "given", "whole"),
    [
        (tables.show_releases, (RELEASES,), [*NAMES[:2], "live", "refused"]),
        (tables.show_status, (STATUS,), [NAMES[0], "degraded", "0/2", "1203"]),
        (tables.show_service, ("storefront", STATUS), [NAMES[2], "stopping", "20011", "4194304"]),
    ],
)
def test_no_name_is_cut_off(
    show: Any,
    given: Any,
    whole: list[str],
    columns: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads it wants to copy it; `columns` None is a pipe."""
    screen = Screen() if columns else io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    made = Console(file=screen, width=columns or 200, soft_wrap=True, no_color=True)
    for module in (console, table, tables):
        monkeypatch.setattr(module, "out", lambda: made)
    show(*given)
    said = screen.getvalue()
    assert [name for name in whole if name not in said] == []
    assert not any(line.endswith(" ") for line in said.splitlines())
    if columns is None:
        assert len(said.splitlines()) <= 3, "whoever searches it finds a row whole"
