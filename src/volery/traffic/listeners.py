"""Gateway and edges -> Envoy listeners. Pure.

A listener never changes while its port lives: what may change is in routes and endpoints, because
replacing a listener would cut its connections. The gateway is the `border`. Inside, at the edges,
headers pass untouched but for those of `x-envoy-*` that Envoy would obey.
"""

from __future__ import annotations

import math

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import protocol_pb2, substitution_format_string_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.access_loggers.stream.v3 import stream_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from google.protobuf.message import Message

from volery.model.needs import KEEP_TRYING_SECONDS, Need
from volery.model.ports import Edge, GatewayTraffic
from volery.traffic import border, breaker, original, reasons, shedding, statistics
from volery.traffic.clusters import from_ads, socket_address, tcp_cluster
from volery.traffic.messages import pack, seconds
from volery.traffic.retries import keeps_trying
from volery.traffic.routes import GATEWAY, IDLE_SECONDS, edge_name

HEADERS_SECONDS = 30.0
TCP_CONNECT_ATTEMPTS = 3
TCP_BACKOFF = (0.025, 0.5)
TCP_PROXY = "envoy.filters.network.tcp_proxy"
LOOPBACK = "127.0.0.1"
LOG_FIELDS = {
    "at": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": original.LOGGED,
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "ms": "%DURATION%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "request": "%REQ(X-REQUEST-ID)%",
}


def gateway_name(gateway: GatewayTraffic) -> str:
    """The name of the gateway's listener; another address makes it another one."""
    return f"{GATEWAY}~{gateway.host}~{gateway.port}"


def gateway_listener(gateway: GatewayTraffic) -> Message:
    """Where users come in: HTTP/1.1, HTTP/2 without TLS (prior knowledge) and WebSocket."""
    manager = _http_manager(GATEWAY)
    manager.http_filters.insert(0, border.shell())
    manager.http_filters.insert(0, original.shell())
    manager.early_header_mutation_extensions.append(border.our_headers())
    manager.access_log.append(_access_log(GATEWAY))
    manager.access_log.extend(statistics.of_requests(GATEWAY))
    return _listener(gateway_name(gateway), gateway.host, gateway.port, _http(manager))


def edge_listener(edge: Edge, tcp: bool) -> Message:
    """Where one caller group reaches one need, on a loopback port of its own."""
    listener = _listener(edge_name(edge), LOOPBACK, edge.port, _edge_filter(edge, tcp))
    # Users who hold all connections that they may must not keep services from each other.
    listener.ignore_global_conn_limit = True
    return listener


def _edge_filter(edge: Edge, tcp: bool) -> Message:
    if tcp:
        return _tcp(edge)
    manager = _http_manager(edge_name(edge))
    manager.forward_client_cert_details = hcm_pb2.HttpConnectionManager.ALWAYS_FORWARD_ONLY
    if shedding.sheds(edge.policy):
        # Behind the breaker, whose quick refusals would look like quick answers.
        manager.http_filters.insert(1, shedding.shell(edge.policy))
    manager.access_log.append(_access_log(edge_name(edge), only_failures=True))
    manager.access_log.extend(statistics.of_requests(caller(edge)))
    return _http(manager)


def caller(edge: Edge) -> str:
    """Who calls, as statistics name it."""
    return f"{edge.caller}~{edge.slot}"


def _listener(name: str, host: str, port: int, network_filter: Message) -> Message:
    chain = listener_components_pb2.FilterChain(filters=[network_filter])
    listener = listener_pb2.Listener(
        name=name, address=socket_address(host, port), filter_chains=[chain], stat_prefix=name
    )
    # The kernel shares connections out by a hash. With few that stay, as pools keep them, one
    # worker would have most of the work and the other would wait.
    listener.connection_balance_config.exact_balance.SetInParent()
    return listener


def _http(manager: Message) -> Message:
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
    )


def _tcp(edge: Edge) -> Message:
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=edge_name(edge),
        cluster=tcp_cluster(edge.need),
        # A database connection may be quiet for a day; both ends notice when the other is gone.
        idle_timeout=seconds(0),
    )
    _tries(proxy, edge.policy)
    proxy.access_log.extend(statistics.of_connections(caller(edge), edge.need))
    proxy.access_log_options.flush_access_log_on_connected = True
    return listener_components_pb2.Filter(name=TCP_PROXY, typed_config=pack(proxy))


def _tries(proxy: Message, policy: Need) -> None:
    """How often a connection is tried; what the client sends meanwhile waits."""
    if not keeps_trying(policy):
        proxy.max_connect_attempts.value = TCP_CONNECT_ATTEMPTS
        return
    base, cap = TCP_BACKOFF
    whole = policy.timeout or KEEP_TRYING_SECONDS
    # Each wait is anything up to the longest, so on average half of it.
    proxy.max_connect_attempts.value = TCP_CONNECT_ATTEMPTS + math.ceil(whole / (cap / 2))
    proxy.backoff_options.base_interval.CopyFrom(seconds(base))
    proxy.backoff_options.max_interval.CopyFrom(seconds(cap))


def _http_manager(routes: str) -> Message:
    manager = hcm_pb2.HttpConnectionManager(
        codec_type=hcm_pb2.HttpConnectionManager.AUTO,
        stat_prefix=routes,
        rds=hcm_pb2.Rds(route_config_name=routes, config_source=from_ads()),
        http_filters=[
            breaker.shell(),
            _extension("router", router_pb2.Router(suppress_envoy_headers=True)),
        ],
        local_reply_config=reasons.replies(marked=routes != GATEWAY),
        http_protocol_options=protocol_pb2.Http1ProtocolOptions(
            accept_http_10=True, default_host_for_http_10="localhost"
        ),
        # Until there are headers and so a route, which has limits of its own. With a
        # `request_headers_timeout` every request would have one timer more.
        stream_idle_timeout=seconds(HEADERS_SECONDS),
        stream_flush_timeout=seconds(IDLE_SECONDS),
        server_header_transformation=hcm_pb2.HttpConnectionManager.PASS_THROUGH,
        skip_xff_append=True,
        # Whoever is in front of us says whether users came by https, as it says from where.
        xff_num_trusted_hops=1,
        # The peer's address decides whether its x-envoy-* headers are believed. Present and empty:
        # nobody's are.
        internal_address_config=hcm_pb2.HttpConnectionManager.InternalAddressConfig(),
        preserve_external_request_id=True,
        upgrade_configs=[
            hcm_pb2.HttpConnectionManager.UpgradeConfig(upgrade_type="websocket"),
        ],
        request_id_extension=_request_id(),
    )
    manager.use_remote_address.value = True
    manager.normalize_path.value = True
    manager.generate_request_id.value = True
    return manager


def _request_id() -> Message:
    settings = uuid_pb2.UuidRequestIdConfig()
    # Packing would rewrite a digit of the id that the client gave.
    settings.pack_trace_reason.value = False
    return hcm_pb2.RequestIDExtension(typed_config=pack(settings))


def _extension(name: str, settings: Message) -> Message:
    return hcm_pb2.HttpFilter(name=f"envoy.filters.http.{name}", typed_config=pack(settings))


def _access_log(via: str, only_failures: bool = False) -> Message:
    """One JSON line a request on standard output, whose file the shim keeps within bounds."""
    line = substitution_format_string_pb2.SubstitutionFormatString()
    line.json_format.update(LOG_FIELDS | {"via": via})
    log = accesslog_pb2.AccessLog(
        name="envoy.access_loggers.stdout",
        typed_config=pack(stream_pb2.StdoutAccessLog(log_format=line)),
    )
    if only_failures:
        failed = log.filter.or_filter.filters.add().status_code_filter.comparison
        failed.op = accesslog_pb2.ComparisonFilter.GE
        failed.value.default_value = 500
        failed.value.runtime_key = "volery.access_log.edge_status"
        log.filter.or_filter.filters.add().response_flag_filter.SetInParent()
    return log
