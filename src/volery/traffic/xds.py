"""TrafficConfig -> everything Envoy has to know, and the order to tell it in. Pure.

A *snapshot* is all resources by type and name. `stages` splits the way from one snapshot to the
next so that at no moment a request finds nobody: first what is new is added (clusters and
endpoints), then listeners and routes turn to it, and only then the old is drained and removed. Each
stage is sent when the one before it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from google.protobuf.message import Message

from volery.model.ports import Edge, GatewayTraffic, ServiceTraffic, TrafficConfig
from volery.traffic import away, clusters, listeners, routes
from volery.traffic.memo import Memo
from volery.traffic.routes import edge_name

_PREFIX = "type.googleapis.com/envoy.config."
CLUSTERS = _PREFIX + "cluster.v3.Cluster"
ENDPOINTS = _PREFIX + "endpoint.v3.ClusterLoadAssignment"
LISTENERS = _PREFIX + "listener.v3.Listener"
ROUTES = _PREFIX + "route.v3.RouteConfiguration"
ORDER = (CLUSTERS, ENDPOINTS, LISTENERS, ROUTES)

Resources = Mapping[str, Message]
Services = Mapping[str, ServiceTraffic]


@dataclass(frozen=True)
class Snapshot:
    """All resources, by type URL and name."""

    types: Mapping[str, Resources] = field(default_factory=lambda: {url: {} for url in ORDER})

    def with_types(self, **changed: Resources) -> Snapshot:
        """The same with some types replaced; keywords: clusters, endpoints, listeners, routes."""
        urls = dict(zip(("clusters", "endpoints", "listeners", "routes"), ORDER, strict=True))
        return Snapshot({**self.types, **{urls[key]: value for key, value in changed.items()}})


def snapshot(config: TrafficConfig) -> Snapshot:
    """What Envoy has to know to do what the configuration says."""
    return Compiler().snapshot(config)


class Compiler:
    """Compiles one configuration after the other; what is made of the same stays the same object.

    Each resource is made of the parts that are handed to it here and of nothing else: clusters of a
    service, an edge of itself and its need, the gateway of the services it
    routes to.
    """

    def __init__(self) -> None:
        self._services: Memo[ServiceTraffic] = Memo()
        self._resources: Memo[list[Message]] = Memo()

    def snapshot(self, config: TrafficConfig) -> Snapshot:
        """What Envoy has to know to do what the configuration says."""
        services = {
            name: self._services.get(name, service, partial(_same, service))
            for name, service in config.services.items()
        }
        edges = [(edge, _is_tcp(edge, services)) for edge in config.edges]
        compiled = Snapshot(
            {
                CLUSTERS: _by_name(self._clusters(services)),
                ENDPOINTS: _by_cluster(self._endpoints(services, away.awaited(config.edges))),
                LISTENERS: _by_name(self._listeners(edges, config.gateway)),
                ROUTES: _by_name(self._routes(edges, config.gateway, services)),
            }
        )
        self._services.sweep()
        self._resources.sweep()
        return compiled

    def _clusters(self, services: Services) -> Iterator[Message]:
        for name, service in services.items():
            make = partial(clusters.clusters, {name: service})
            yield from self._resources.get((CLUSTERS, name), service, make)

    def _endpoints(self, services: Services, awaited: frozenset[str]) -> Iterator[Message]:
        for name, service in services.items():
            waits = awaited & {name}
            make = partial(clusters.assignments, {name: service}, waits)
            yield from self._resources.get((ENDPOINTS, name), (service, waits), make)

    def _listeners(
        self, edges: Iterable[tuple[Edge, bool]], gateway: GatewayTraffic | None
    ) -> Iterator[Message]:
        for edge, tcp in edges:
            make = partial(_edge_listener, edge, tcp)
            yield from self._resources.get((LISTENERS, edge_name(edge)), (edge, tcp), make)
        if gateway is not None:
            make = partial(_gateway_listener, gateway)
            yield from self._resources.get(LISTENERS, gateway, make)

    def _routes(
        self,
        edges: Iterable[tuple[Edge, bool]],
        gateway: GatewayTraffic | None,
        services: Services,
    ) -> Iterator[Message]:
        for edge, tcp in edges:
            if not tcp:
                need = _only(services, edge.need)
                make = partial(_edge_routes, edge, need)
                yield from self._resources.get((ROUTES, edge_name(edge)), (edge, need), make)
        if gateway is not None:
            routed = _only(services, *(route.service for route in gateway.routes))
            make = partial(_gateway_routes, gateway, routed)
            yield from self._resources.get(ROUTES, (gateway, routed), make)


def stages(old: Snapshot, new: Snapshot) -> tuple[Snapshot, ...]:
    """The snapshots to go through, the last being `new`; none if there is nothing to do.

    From nothing it is one: proxies have nothing, or what they have is unknown and must not be
    taken from them on the way.
    """
    before, after = old.types, new.types
    if old == Snapshot() != new:
        return (new,)
    all_clusters = {**before[CLUSTERS], **after[CLUSTERS]}
    grown = old.with_types(
        clusters=all_clusters,
        endpoints=_grown(before[ENDPOINTS], after[ENDPOINTS]),
    )
    switched = grown.with_types(
        listeners={**before[LISTENERS], **after[LISTENERS]},
        routes={**before[ROUTES], **after[ROUTES]},
    )
    settled = new.with_types(
        clusters=all_clusters,
        endpoints={**before[ENDPOINTS], **after[ENDPOINTS]},
    )
    path: list[Snapshot] = []
    for stage in (grown, switched, settled, new):
        if stage != (path[-1] if path else old):
            path.append(stage)
    return tuple(path)


def expected(state: Snapshot, url: str) -> frozenset[str]:
    """Which resources of a type Envoy asks for by name once it knows the other types."""
    if url == ENDPOINTS:
        return frozenset(state.types[CLUSTERS])
    if url == ROUTES:
        return frozenset(
            routes_of(name)
            for name, listener in state.types[LISTENERS].items()
            if not _forwards_tcp(listener)
        )
    return frozenset()


def routes_of(listener: str) -> str:
    """The name of the routes that an HTTP listener follows: an edge's are called like itself.

    A service may be called like the gateway, so the form decides: `gateway~HOST~PORT` of the one,
    `CALLER~SLOT~NEED~PORT` of the others.
    """
    return routes.GATEWAY if listener.count("~") == 2 else listener


def addresses(state: Snapshot) -> frozenset[tuple[str, int]]:
    """Every host and port that Envoy listens on."""
    found = (listener.address.socket_address for listener in state.types[LISTENERS].values())
    return frozenset((address.address, address.port_value) for address in found)


def _same(service: ServiceTraffic) -> ServiceTraffic:
    return service


def _edge_listener(edge: Edge, tcp: bool) -> list[Message]:
    return [listeners.edge_listener(edge, tcp)]


def _gateway_listener(gateway: GatewayTraffic) -> list[Message]:
    return [listeners.gateway_listener(gateway)]


def _edge_routes(edge: Edge, need: Services) -> list[Message]:
    return [routes.edge_routes(edge, need)]


def _gateway_routes(gateway: GatewayTraffic, services: Services) -> list[Message]:
    return [routes.gateway_routes(gateway, services)]


def _only(services: Services, *names: str) -> Services:
    return {name: services[name] for name in names if name in services}


def _is_tcp(edge: Edge, services: Services) -> bool:
    service = services.get(edge.need)
    return service is not None and service.protocol == "tcp"


def _by_name(messages: Iterable[Message]) -> dict[str, Message]:
    return {message.name: message for message in messages}


def _by_cluster(messages: Iterable[Message]) -> dict[str, Message]:
    return {message.cluster_name: message for message in messages}


def _forwards_tcp(listener: Message) -> bool:
    return bool(listener.filter_chains[0].filters[0].name == listeners.TCP_PROXY)


def _grown(old: Resources, new: Resources) -> Resources:
    """Endpoints of both; whoever served goes on serving until the routes have turned."""
    merged = {**old, **new}
    for name in old.keys() & new.keys():
        if old[name] is not new[name]:
            merged[name] = _both(old[name], new[name])
    return merged


def _both(old: Message, new: Message) -> Message:
    known = {clusters.endpoint_key(item): item for item in new.endpoints[0].lb_endpoints}
    for item in old.endpoints[0].lb_endpoints:
        coming = known.get(clusters.endpoint_key(item))
        if coming is None or (clusters.serves(item) and not clusters.serves(coming)):
            known[clusters.endpoint_key(item)] = item
    return clusters.assignment(new.cluster_name, known.values())
