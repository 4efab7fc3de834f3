"""TrafficConfig -> everything Envoy has to know, and the order to tell it in. Pure.

A *snapshot* is all resources by type and name. `stages` splits the way from one snapshot to the
next so that at no moment a request finds nobody: first what is new is added (clusters and
endpoints), then listeners and routes turn to it, and only then the old is drained and removed. Each
stage is sent when the one before it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

from volery.model.ports import Edge, TrafficConfig
from volery.traffic import clusters, listeners, routes

_PREFIX = "type.googleapis.com/envoy.config."
CLUSTERS = _PREFIX + "cluster.v3.Cluster"
ENDPOINTS = _PREFIX + "endpoint.v3.ClusterLoadAssignment"
LISTENERS = _PREFIX + "listener.v3.Listener"
ROUTES = _PREFIX + "route.v3.RouteConfiguration"
ORDER = (CLUSTERS, ENDPOINTS, LISTENERS, ROUTES)

Resources = Mapping[str, Message]


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
    http_edges = [edge for edge in config.edges if not _is_tcp(config, edge)]
    listening = [listeners.edge_listener(edge, _is_tcp(config, edge)) for edge in config.edges]
    routing = [routes.edge_routes(edge, config.services) for edge in http_edges]
    if config.gateway is not None:
        listening.append(listeners.gateway_listener(config.gateway))
        routing.append(routes.gateway_routes(config.gateway, config.services))
    return Snapshot(
        {
            CLUSTERS: _by_name(clusters.clusters(config.services, config.edges)),
            ENDPOINTS: {item.cluster_name: item for item in clusters.assignments(config.services)},
            LISTENERS: _by_name(listening),
            ROUTES: _by_name(routing),
        }
    )


def stages(old: Snapshot, new: Snapshot) -> tuple[Snapshot, ...]:
    """The snapshots to go through, the last being `new`; none if there is nothing to do."""
    before, after = old.types, new.types
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
            _routes_of(name)
            for name, listener in state.types[LISTENERS].items()
            if not _forwards_tcp(listener)
        )
    return frozenset()


def addresses(state: Snapshot) -> frozenset[tuple[str, int]]:
    """Every host and port that Envoy listens on."""
    found = (listener.address.socket_address for listener in state.types[LISTENERS].values())
    return frozenset((address.address, address.port_value) for address in found)


def _is_tcp(config: TrafficConfig, edge: Edge) -> bool:
    service = config.services.get(edge.need)
    return service is not None and service.protocol == "tcp"


def _by_name(messages: Iterable[Message]) -> dict[str, Message]:
    return {message.name: message for message in messages}


def _forwards_tcp(listener: Message) -> bool:
    return bool(listener.filter_chains[0].filters[0].name == listeners.TCP_PROXY)


def _routes_of(listener: str) -> str:
    return routes.GATEWAY if listener.startswith(f"{routes.GATEWAY}~") else listener


def _grown(old: Resources, new: Resources) -> Resources:
    """Endpoints of both; whoever served goes on serving until the routes have turned."""
    merged = {**old, **new}
    for name in old.keys() & new.keys():
        merged[name] = _both(old[name], new[name])
    return merged


def _both(old: Message, new: Message) -> Message:
    known = {clusters.endpoint_key(item): item for item in new.endpoints[0].lb_endpoints}
    for item in old.endpoints[0].lb_endpoints:
        coming = known.get(clusters.endpoint_key(item))
        if coming is None or (clusters.serves(item) and not clusters.serves(coming)):
            known[clusters.endpoint_key(item)] = item
    return clusters.assignment(new.cluster_name, known.values())
