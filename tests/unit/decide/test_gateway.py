"""Which services a route waits for."""

from __future__ import annotations

from dataclasses import replace

from unit.decide.worlds import application, running

from volery.decide.gateway import awaited_by
from volery.model.application import Route


def test_a_route_waits_for_a_service_that_is_known_and_has_not_served_yet() -> None:
    """Its first release is still built or started, or did not come up."""
    world = running(application(shop={}, cart={}))
    routes = [Route(path="/", service="cart")]
    assert awaited_by(world, routes) == ()
    built = replace(world.releases["cart@1"], state="built")
    starting = replace(world, releases={**world.releases, "cart@1": built})
    assert awaited_by(starting, routes) == ("cart",)
    cart = replace(world.services["cart"], slots={"a": None, "b": None})
    unbuilt = replace(world, services={**world.services, "cart": cart})
    assert awaited_by(unbuilt, routes) == ("cart",)
