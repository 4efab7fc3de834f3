"""What an Envoy is started with. Pure.

Two forms: with ADS it starts empty and asks the control plane; *fallback* carries a whole snapshot
inside, for the case that Envoy dies while there is no control plane to ask. Both have the same
names for everything, so statistics and hot restart do not notice the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, config_source_pb2, grpc_service_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.overload.v3 import overload_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from volery.traffic import calm
from volery.traffic.clusters import HTTP_OPTIONS, from_ads, http_options
from volery.traffic.memo import Memo
from volery.traffic.messages import pack, seconds
from volery.traffic.xds import CLUSTERS, ENDPOINTS, LISTENERS, ROUTES, Snapshot, routes_of

ADS = "volery~ads"
CONNECT_SECONDS = 1.0
RECONNECT_SECONDS = (0.1, 1.0)
MAX_CLIENT_CONNECTIONS = 50_000
# Envoy's own limit of 100 would refuse everything for the sake of one long path or cookie.
MAX_PATTERN = 10_000
# Only then do histograms show what workers have counted.
FLUSH_SECONDS = 0.5


def with_ads(socket: str) -> str:
    """Ask the control plane behind this Unix socket, and keep asking until it answers."""
    bootstrap = _common()
    bootstrap.static_resources.clusters.append(_ads_cluster(socket))
    bootstrap.layered_runtime.layers.add(name=calm.LAYER).rtds_layer.CopyFrom(
        bootstrap_pb2.RuntimeLayer.RtdsLayer(name=calm.LAYER, rtds_config=from_ads())
    )
    dynamic = bootstrap.dynamic_resources
    dynamic.ads_config.CopyFrom(_ads_source())
    dynamic.cds_config.CopyFrom(from_ads())
    dynamic.lds_config.CopyFrom(from_ads())
    return str(json_format.MessageToJson(bootstrap))


def fallback(state: Snapshot) -> bytes:
    """Do what this snapshot says, on its own."""
    return Fallbacks().of(state)


class Fallbacks:
    """Bootstraps that hold a whole snapshot, one after the other.

    In protobuf's binary form: as JSON a change in an environment of fifty services would hold up
    the control plane for 70 ms. It is also the form whose messages can be joined by joining their
    bytes, so only what changed is written anew.
    """

    def __init__(self) -> None:
        self._parts: Memo[bytes] = Memo()

    def of(self, state: Snapshot) -> bytes:
        """Do what this snapshot says, on its own."""
        parts = [_bytes(_common()), *self._clusters(state), *self._listeners(state)]
        self._parts.sweep()
        return b"".join(parts)

    def _clusters(self, state: Snapshot) -> Iterator[bytes]:
        for name, cluster in state.types[CLUSTERS].items():
            made_of = (cluster, state.types[ENDPOINTS][name])
            yield self._parts.get((CLUSTERS, name), made_of, partial(_cluster_part, *made_of))

    def _listeners(self, state: Snapshot) -> Iterator[bytes]:
        for name, listener in state.types[LISTENERS].items():
            routes = state.types[ROUTES].get(routes_of(name))
            make = partial(_listener_part, listener, routes)
            yield self._parts.get((LISTENERS, name), (listener, routes), make)


def admin(socket: str, node: str) -> str:
    """What differs between two Envoys of one environment; merged into either form."""
    own = bootstrap_pb2.Bootstrap()
    own.node.id = node
    own.admin.address.pipe.CopyFrom(address_pb2.Pipe(path=socket, mode=0o600))
    return str(json_format.MessageToJson(own, indent=None))


def _common() -> Message:
    bootstrap = bootstrap_pb2.Bootstrap()
    bootstrap.node.cluster = "volery"
    limits = bootstrap.layered_runtime.layers.add(name="limits")
    limits.static_layer.update({"re2.max_program_size.error_level": MAX_PATTERN})
    bootstrap.stats_flush_interval.CopyFrom(seconds(FLUSH_SECONDS))
    limit = downstream_connections_pb2.DownstreamConnectionsConfig(
        max_active_downstream_connections=MAX_CLIENT_CONNECTIONS
    )
    bootstrap.overload_manager.resource_monitors.append(
        overload_pb2.ResourceMonitor(
            name="envoy.resource_monitors.global_downstream_max_connections",
            typed_config=pack(limit),
        )
    )
    return bootstrap


def _ads_cluster(socket: str) -> Message:
    endpoint = endpoint_components_pb2.LbEndpoint()
    endpoint.endpoint.address.pipe.path = socket
    cluster = cluster_pb2.Cluster(
        name=ADS,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=seconds(CONNECT_SECONDS),
        load_assignment=endpoint_pb2.ClusterLoadAssignment(
            cluster_name=ADS,
            endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[endpoint])],
        ),
    )
    options = http_options(http1=False, idle_seconds=0)
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].Pack(options, deterministic=True)
    return cluster


def _ads_source() -> Message:
    service = grpc_service_pb2.GrpcService()
    service.envoy_grpc.cluster_name = ADS
    base, cap = RECONNECT_SECONDS
    back_off = service.envoy_grpc.retry_policy.retry_back_off
    back_off.base_interval.CopyFrom(seconds(base))
    back_off.max_interval.CopyFrom(seconds(cap))
    return config_source_pb2.ApiConfigSource(
        api_type=config_source_pb2.ApiConfigSource.GRPC,
        transport_api_version=config_source_pb2.V3,
        set_node_on_first_message_only=True,
        grpc_services=[service],
    )


def _with_endpoints(cluster: Message, assignment: Message) -> Message:
    static = cluster_pb2.Cluster()
    static.CopyFrom(cluster)
    static.ClearField("eds_cluster_config")
    static.type = cluster_pb2.Cluster.STATIC
    static.load_assignment.CopyFrom(assignment)
    return static


def _with_routes(listener: Message, routes: Message | None) -> Message:
    static = type(listener)()
    static.CopyFrom(listener)
    settings = static.filter_chains[0].filters[0].typed_config
    if not settings.Is(hcm_pb2.HttpConnectionManager.DESCRIPTOR):
        return static
    manager = hcm_pb2.HttpConnectionManager()
    settings.Unpack(manager)
    manager.route_config.CopyFrom(routes)
    settings.CopyFrom(pack(manager))
    return static


def _cluster_part(cluster: Message, assignment: Message) -> bytes:
    part = bootstrap_pb2.Bootstrap()
    part.static_resources.clusters.append(_with_endpoints(cluster, assignment))
    return _bytes(part)


def _listener_part(listener: Message, routes: Message | None) -> bytes:
    part = bootstrap_pb2.Bootstrap()
    part.static_resources.listeners.append(_with_routes(listener, routes))
    return _bytes(part)


def _bytes(message: Message) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
