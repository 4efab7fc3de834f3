"""What is said of edges, and what is forgotten with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from volery.control.draft import Draft
from volery.control.edges import EdgeWatch
from volery.model.evidence import Counters, ProxySample, Sample
from volery.model.needs import Need
from volery.model.ports import Edge, GatewayRoute, GatewayTraffic, TrafficConfig
from volery.store.memory import MemoryStore

CALLS = 20


@dataclass
class Plane:
    """A watch, its store, and an Envoy that counts what `caller` asks `need`, which all fails, and
    what users ask, which does not."""

    need: str = "web"
    caller: str = "front"
    watch: EdgeWatch = field(default_factory=EdgeWatch)
    store: MemoryStore = field(default_factory=MemoryStore)
    number: int = 0

    def look(self, *, there: bool = True) -> None:
        """A second passes; `there`: whether the edge exists."""
        self.number += 1
        calls = CALLS * self.number
        edges = {f"{self.caller}~a~{self.need}": Counters(calls, calls)}
        edges[f"gateway~{self.need}"] = Counters(100 * calls, 0)
        sample = Sample(self.number, self.number * 1.0, {"7@0.00": ProxySample(edges=edges)})
        edge = Edge(self.caller, "a", self.need, 20001, Need())
        draft = Draft(self.store, 1000.0 + self.number)
        users = GatewayTraffic("127.0.0.1", 8080, (GatewayRoute("/", self.need),))
        config = TrafficConfig(users, edges=(edge,) if there else ())
        self.watch.look(draft, config, sample)
        draft.commit()

    def said(self) -> list[tuple[str, str | None]]:
        return [(event.kind, event.service) for event in self.store.events()]


@pytest.mark.parametrize("need", ["web", "web+replicas"])
def test_it_is_said_once_and_of_the_service_there_is(need: str) -> None:
    plane = Plane(need)
    for _ in range(6):
        plane.look()
    assert plane.said() == [("edge.unavailable", "web")]


def test_a_service_called_gateway_is_not_where_users_come_in() -> None:
    plane = Plane(caller="gateway")
    for _ in range(6):
        plane.look()
    (event,) = plane.store.events()
    assert event.text.startswith("for service gateway, web is unavailable")


@pytest.mark.parametrize("restarted", [True, False])
def test_an_edge_that_is_removed_is_forgotten(restarted: bool) -> None:
    plane = Plane()
    for _ in range(4):
        plane.look()
    if restarted:
        plane.watch = EdgeWatch()
    plane.look(there=False)
    plane.look(there=False)
    assert not plane.store.documents("edge")
    for _ in range(4):
        plane.look()
    assert plane.said() == [("edge.unavailable", "web")] * 2
