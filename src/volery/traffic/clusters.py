"""Services -> Envoy clusters and their endpoints. Pure.

An http, http2 or grpc service has two permanent clusters, one a slot, so that a rollout only moves
weights and a slot's statistics are its own; a third one while there is a baseline. A tcp service
has one, because a connection cannot be moved between clusters without a listener change, which
would cut it: its weights live in its endpoints. A draining endpoint stays listed, so that what it
still answers is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, config_source_pb2, health_check_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as upstream_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.message import Message

from volery.model.needs import BUDGET
from volery.model.ports import Edge, Endpoint, ServiceTraffic
from volery.model.state import SLOTS, SlotName
from volery.traffic import away, limits
from volery.traffic.messages import seconds

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONNECT_SECONDS = 1.0
# Servers close idle connections after 2 s (gunicorn) or 5 s (node, uvicorn). We close first, or a
# request could be written to a connection that is just being closed.
HTTP1_IDLE_SECONDS = 1.0
HTTP2_IDLE_SECONDS = 60.0
# All weights of a cluster must fit into 32 bits.
TCP_WEIGHT_SCALE = 1_000_000
# Where statistics find the slot of an endpoint of a tcp service, and the number of any instance.
SLOT_METADATA, SLOT, NUMBER = "volery", "slot", "number"


def slot_cluster(service: str, slot: SlotName) -> str:
    """The permanent cluster of one slot of an http, http2 or grpc service."""
    return f"{service}~{slot}"


def tcp_cluster(service: str) -> str:
    """The one cluster of a tcp service."""
    return f"{service}~tcp"


def from_ads() -> config_source_pb2.ConfigSource:
    """Where dynamic resources come from; a proxy that starts waits for them, it never guesses."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.V3,
        initial_fetch_timeout=seconds(0),
    )


def socket_address(host: str, port: int) -> address_pb2.Address:
    """A TCP address."""
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(address=host, port_value=port)
    )


def clusters(services: Mapping[str, ServiceTraffic]) -> list[Message]:
    """Every cluster, without its endpoints."""
    return [
        _cluster(name, protocol)
        for owner, service in services.items()
        for name, protocol in _names(owner, service)
    ]


def budgets(services: Mapping[str, ServiceTraffic], edges: Iterable[Edge]) -> dict[str, float]:
    """The runtime keys that say which clusters have a larger retry budget than all have."""
    return dict(
        limits.raised(name, budget)
        for owner, budget in limits.budgets(edges).items()
        if budget > BUDGET and owner in services
        for name, _ in _names(owner, services[owner])
    )


def assignments(
    services: Mapping[str, ServiceTraffic], awaited: Collection[str] = ()
) -> list[Message]:
    """The endpoints of every cluster. *Awaited* services have callers that keep trying."""
    return [
        assignment
        for name, service in services.items()
        for assignment in _assigned(name, service, name in awaited and away.is_away(service))
    ]


def assignment(name: str, endpoints: Iterable[Message]) -> Message:
    """The endpoints of one cluster, always in the same order."""
    ordered = sorted(endpoints, key=endpoint_key)
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=ordered)],
    )


def endpoint_key(item: Message) -> tuple[str, str, int]:
    """What makes an endpoint the same one: instance, host and port."""
    address = item.endpoint.address.socket_address
    return item.endpoint.hostname, address.address, address.port_value


def serves(item: Message) -> bool:
    """Whether an endpoint gets new requests."""
    return bool(item.health_status == health_check_pb2.HEALTHY)


def http_options(http1: bool, idle_seconds: float) -> Message:
    """How to speak HTTP upstream, and when to close a connection that has nothing to do."""
    explicit = upstream_pb2.HttpProtocolOptions.ExplicitHttpConfig()
    if http1:
        explicit.http_protocol_options.SetInParent()
    else:
        explicit.http2_protocol_options.SetInParent()
    return upstream_pb2.HttpProtocolOptions(
        explicit_http_config=explicit,
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
            idle_timeout=seconds(idle_seconds)
        ),
    )


def _names(name: str, service: ServiceTraffic) -> list[tuple[str, str]]:
    """The clusters of a service, and what is spoken to each."""
    if service.protocol == "tcp":
        return [(tcp_cluster(name), "tcp")]
    return [
        (slot_cluster(name, slot), service.slots[slot].protocol or service.protocol)
        for slot in SLOTS
        if slot in service.slots
    ]


def _cluster(name: str, protocol: str) -> Message:
    cluster = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=from_ads()),
        connect_timeout=seconds(CONNECT_SECONDS),
        lb_policy=cluster_pb2.Cluster.LEAST_REQUEST,
        circuit_breakers=limits.thresholds(),
        common_lb_config=cluster_pb2.Cluster.CommonLbConfig(
            # Never "all are unhealthy, so try any": a draining instance gets no new request.
            healthy_panic_threshold=percent_pb2.Percent(value=0),
            # The default merges health changes for a second before workers hear of them.
            update_merge_window=seconds(0),
        ),
    )
    if protocol == "tcp":
        # Otherwise connections that are held, as by pools, would push a split towards equality.
        # Where all weights are equal the less busy of two is still taken.
        cluster.least_request_lb_config.active_request_bias.default_value = 0
        cluster.least_request_lb_config.active_request_bias.runtime_key = "volery.tcp_bias"
    else:
        http1 = protocol == "http"
        options = http_options(http1, HTTP1_IDLE_SECONDS if http1 else HTTP2_IDLE_SECONDS)
        cluster.typed_extension_protocol_options[HTTP_OPTIONS].Pack(options, deterministic=True)
        cluster.outlier_detection.CopyFrom(limits.ejection())
    return cluster


def _assigned(name: str, service: ServiceTraffic, awaited: bool) -> Iterator[Message]:
    nobody = [away.nobody()] if awaited else []
    if service.protocol == "tcp":
        endpoints = [item for slot in service.slots for item in _tcp_endpoints(service, slot)]
        yield assignment(tcp_cluster(name), [*endpoints, *nobody])
        return
    for slot in service.slots:
        group = service.slots[slot]
        endpoints = [_endpoint(item, item.draining) for item in group.endpoints]
        yield assignment(slot_cluster(name, slot), [*endpoints, *nobody])


def _tcp_endpoints(service: ServiceTraffic, slot: SlotName) -> Iterator[Message]:
    """A slot shares its weight among its endpoints; one without weight only finishes."""
    group = service.slots[slot]
    active = sum(not item.draining for item in group.endpoints)
    share = max(1, round(group.weight * TCP_WEIGHT_SCALE / max(1, active)))
    for item in group.endpoints:
        endpoint = _endpoint(item, item.draining or group.weight == 0, share)
        endpoint.metadata.filter_metadata[SLOT_METADATA].fields[SLOT].string_value = slot
        yield endpoint


def _endpoint(item: Endpoint, draining: bool, weight: int = 1) -> Message:
    host, _, port = item.address.rpartition(":")
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(
            address=socket_address(host.strip("[]"), int(port)),
            hostname=item.instance,
        ),
        health_status=health_check_pb2.DRAINING if draining else health_check_pb2.HEALTHY,
    )
    endpoint.load_balancing_weight.value = weight
    number = item.instance.rpartition("-")[2]
    endpoint.metadata.filter_metadata[SLOT_METADATA].fields[NUMBER].string_value = number
    return endpoint
