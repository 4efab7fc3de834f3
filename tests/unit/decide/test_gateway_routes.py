"""A route counts once it leads somewhere; until then the one before it stays."""

from __future__ import annotations

import pytest

from volery.decide.gateway_routes import in_force, with_only
from volery.model.application import Application, Route


def routes(text: str) -> list[Route]:
    """`/api=web` or `a.com/api=web`, apart by blanks."""
    found = []
    for item in text.split():
        place, _, service = item.partition("=")
        host, _, path = place.partition("/")
        found.append(Route(path=f"/{path}", host=host or None, service=service))
    return found


def said(found: tuple[Route, ...]) -> set[str]:
    return {f"{route.host or ''}{route.path}={route.service}" for route in found}


@pytest.mark.parametrize(
    ("before", "wanted", "awaited", "leaving", "now"),
    [
        ("/=shop", "/=front", "", "shop", "/=front"),
        ("/=shop", "/=front", "front", "shop", "/=shop"),
        ("/=web", "/=web /api=api", "api", "", "/=web"),
        ("/=web", "/=web /api=api", "", "", "/=web /api=api"),
        # Nobody answered there: the new one says that it has no instance yet.
        ("/a=web", "/a=web /api=api", "api", "", "/a=web /api=api"),
        ("/a=web", "/a=web /ab=api", "api", "", "/a=web /ab=api"),
        # What is taken away on purpose is gone at once, unless its service goes with it.
        ("/old=web /x=x", "/x=x /new=api", "api", "", "/x=x /new=api"),
        ("/old=web /x=x", "/x=x /new=api", "api", "web", "/old=web /x=x /new=api"),
        ("/=web", "/www=web /api=api", "api", "", "/=web /www=web"),
        # A route that changes between services that are there changes at once.
        ("/=web /a=web", "/=web /a=other /b=b", "b", "", "/=web /a=other"),
        ("a.com/=web", "/=api", "api", "web", "a.com/=web /=api"),
        ("*.com/=web", "a.com/=api", "api", "", "*.com/=web"),
        ("/=web", "a.com/=api", "api", "", "/=web"),
    ],
)
def test_a_route_waits_while_another_one_answers_in_its_place(
    before: str, wanted: str, awaited: str, leaving: str, now: str
) -> None:
    found = in_force(routes(wanted), routes(before), awaited.split(), leaving.split())
    assert said(found) == set(now.split())


def app(gateway: str, *, port: int = 8080, **services: str) -> Application:
    return Application.model_validate(
        {
            "app": "tea",
            "gateway": {"port": port, "routes": [item.model_dump() for item in routes(gateway)]},
            "services": {name: {"run": run} for name, run in services.items()},
        }
    )


@pytest.mark.parametrize(
    ("before", "wanted", "now"),
    [
        ("/=shop /pay=pay", "/=shop", "/=shop /pay=pay"),
        ("/=shop", "/=shop /cat=cat", "/=shop /cat=cat"),
        ("/=shop /cat=cat", "/=shop /cats=cat", "/=shop /cats=cat"),
        ("/=shop", "/=shop /new=shop", "/=shop"),
        ("/=shop", "/=cat", "/=cat"),
        ("/=cat", "/=shop", "/=cat"),
    ],
)
def test_deploy_of_one_service_brings_its_routes_and_no_others(
    before: str, wanted: str, now: str
) -> None:
    old = app(before, port=8090, shop="1", pay="1", cat="1")
    new = app(wanted, shop="2", cat="2")
    after = with_only(old, new, ["cat"])
    assert said(after.gateway.routes) == set(now.split())
    assert after.gateway.port == 8090
    assert {name: item.run for name, item in after.services.items()} == {
        "shop": old.services["shop"].run,
        "pay": old.services["pay"].run,
        "cat": new.services["cat"].run,
    }
