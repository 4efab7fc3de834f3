"""Gateway routes and edges -> Envoy route configurations. Pure.

Which service a request belongs to: among the routes whose host matches, the longest path wins, on
whole segments; between equal paths the more exact host. Which of its groups: see `split`.

Time limits: a response must *begin* within `GATEWAY_SECONDS` (users) or `EDGE_SECONDS` (services),
and may then last as long as something moves every `IDLE_SECONDS`; upgraded connections (WebSocket)
and gRPC calls have only the much longer `STREAM_IDLE_SECONDS`, and gRPC's own deadline. A timeout
written into the manifest limits the whole response, for gRPC its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.type.matcher.v3 import regex_pb2
from google.protobuf.message import Message

from volery.model.fields import prefix_of
from volery.model.needs import KEEP_TRYING_SECONDS, Need, longest_seconds
from volery.model.ports import (
    SYNTHETIC_CALLER,
    Edge,
    GatewayRoute,
    GatewayTraffic,
    ServiceTraffic,
)
from volery.traffic import border, breaker, calm, original, reasons, shedding
from volery.traffic.messages import seconds
from volery.traffic.retries import (
    EDGE_SECONDS,
    Retries,
    keeps_trying,
    retries,
)
from volery.traffic.shedding import sheds
from volery.traffic.split import matched, shares, ways

GATEWAY = "gateway"
GATEWAY_SECONDS = 60.0
IDLE_SECONDS = 300.0
STREAM_IDLE_SECONDS = 3600.0
# So much of a request is kept while it waits for its need; elsewhere Envoy's 1 MiB.
KEPT_WHILE_WAITING = 8 * 2**20
INTERNAL_HEADERS = ("x-envoy-external-address", "x-envoy-internal")
NO_ROUTE = (
    "404: nothing is routed here\n"
    "hint: see `gateway.routes` in volery.yaml for the paths and hosts that are\n"
)

Services = Mapping[str, ServiceTraffic]


def edge_name(edge: Edge) -> str:
    """The name of an edge's listener and routes; a new port makes it a new one."""
    return f"{edge.caller}~{edge.slot}~{edge.need}~{edge.port}"


def gateway_routes(gateway: GatewayTraffic, services: Services) -> Message:
    """Hosts and paths of the gateway. A host without a route for a path answers 404."""
    hosts = sorted({route.host.lower() for route in gateway.routes if route.host} | {"*"})
    return _configuration(
        GATEWAY, [_virtual_host(host, gateway.routes, services) for host in hosts]
    )


def edge_routes(edge: Edge, services: Services) -> Message:
    """Everything a caller sends to one need."""
    ours = edge.caller == SYNTHETIC_CALLER
    routes = list(_to_service("/", edge.need, services, edge.policy, ours=ours))
    host = route_components_pb2.VirtualHost(name=edge.need, domains=["*"], routes=routes)
    if keeps_trying(edge.policy):
        host.request_body_buffer_limit.value = KEPT_WHILE_WAITING
    else:
        _with(host, breaker.filled())
    return _configuration(edge_name(edge), [host])


def _configuration(name: str, hosts: list[Message]) -> Message:
    return route_pb2.RouteConfiguration(
        name=name,
        virtual_hosts=hosts,
        ignore_port_in_host_matching=True,
        request_headers_to_remove=INTERNAL_HEADERS,
    )


def _virtual_host(host: str, routes: tuple[GatewayRoute, ...], services: Services) -> Message:
    matching = [route for route in routes if _covers(route.host, host)]
    matching.sort(key=_exactness, reverse=True)
    found = [
        item
        for route in matching
        for item in _to_service(route.path, route.service, services, None, route.strip)
    ]
    unknown = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix="/"), direct_response=_answer(404, NO_ROUTE)
    )
    return route_components_pb2.VirtualHost(name=host, domains=[host], routes=[*found, unknown])


def _covers(pattern: str | None, host: str) -> bool:
    """Whether a route's host takes part in answering for a virtual host."""
    return pattern is None or fnmatchcase(host, pattern.lower())


def _exactness(route: GatewayRoute) -> tuple[int, bool, int]:
    host = route.host or "*"
    return len(prefix_of(route.path)), "*" not in host, len(host)


def _to_service(
    path: str,
    name: str,
    services: Services,
    policy: Need | None,
    strip: str | None = None,
    ours: bool = False,
) -> Iterator[Message]:
    service = services.get(name)
    if service is None or service.protocol == "tcp" or not _has_way(service, policy):
        yield _unavailable(path, name, service)
        return
    for upgrade in (True, False) if service.protocol == "http" else (False,):
        first_byte = _first_byte(service, policy, upgrade)
        tried = list(retries(service, policy, first_byte, upgrade))
        for way in ways(name, service, policy is None, upgrade, ours):
            for retry in tried:
                match = _match(path, upgrade)
                match.headers.extend(way.headers)
                if retry.methods is not None:
                    match.headers.append(matched(":method", retry.methods))
                limits = _limits(service, policy, upgrade, retry)
                route = route_components_pb2.Route(
                    name=name,
                    match=match,
                    route=_action(limits, way.target, strip),
                    response_headers_to_add=way.answer,
                )
                if sheds(policy) and not upgrade and service.protocol != "grpc":
                    _with(route, shedding.on())
                if strip:
                    _with(route, original.on())
                if not upgrade and not keeps_trying(policy):
                    yield _while_calm(route, users=policy is None)
                if policy is None:
                    _with(route, {**breaker.filled(), **border.on()})
                yield route


def _while_calm(route: Message, users: bool) -> Message:
    """The same without what costs every request something, for as long as it is not needed."""
    found = route_components_pb2.Route()
    found.CopyFrom(route)
    found.match.runtime_fraction.CopyFrom(calm.while_calm(route.name))
    if users:
        found.match.headers.extend(border.harmless())
    else:
        _with(found, breaker.left_out())
    return found


def _has_way(service: ServiceTraffic, policy: Need | None) -> bool:
    return bool(shares(service)) or keeps_trying(policy)


def _with(place: Message, filters: Mapping[str, Message]) -> None:
    for name, settings in filters.items():
        place.typed_per_filter_config[name].CopyFrom(settings)


def _unavailable(path: str, name: str, service: ServiceTraffic | None) -> Message:
    why = "has no instance that takes requests now"
    if service is not None and service.protocol == "tcp":
        why = "speaks tcp, which has no paths; services reach it through `needs`"
    body = f"503: {name} {why}\n"
    answer = _answer(503, body)
    return route_components_pb2.Route(
        name=name,
        match=_match(path),
        direct_response=answer,
        response_headers_to_add=[reasons.header(f"{name} {why}")],
    )


def _answer(status: int, body: str) -> Message:
    return route_components_pb2.DirectResponseAction(
        status=status, body=base_pb2.DataSource(inline_string=body)
    )


def _match(path: str, upgrade: bool = False) -> Message:
    prefix = prefix_of(path)
    match = route_components_pb2.RouteMatch()
    if prefix:
        match.path_separated_prefix = prefix
    else:
        match.prefix = "/"
    if upgrade:
        match.headers.add(name="upgrade", present_match=True)
    return match


def _action(limits: Message, target: Message, strip: str | None) -> Message:
    action = route_components_pb2.RouteAction()
    action.CopyFrom(limits)
    action.MergeFrom(target)
    if strip and prefix_of(strip):
        action.regex_rewrite.CopyFrom(
            regex_pb2.RegexMatchAndSubstitute(
                pattern=regex_pb2.RegexMatcher(regex=f"^{re.escape(prefix_of(strip))}(/|$)"),
                substitution="/",
            )
        )
    return action


def _first_byte(service: ServiceTraffic, policy: Need | None, upgrade: bool) -> float:
    """Seconds until an answer must begin, where nothing else limits it; 0 for no limit."""
    grpc, given = service.protocol == "grpc", policy.timeout if policy else None
    if upgrade or (grpc and given is None):
        return 0.0
    if given is not None:
        return given if grpc else 0.0
    return EDGE_SECONDS if policy else GATEWAY_SECONDS


def _limits(service: ServiceTraffic, policy: Need | None, upgrade: bool, retry: Retries) -> Message:
    """Timeouts and retries of a route."""
    grpc = service.protocol == "grpc"
    whole = (policy.timeout if policy else None) or 0.0
    tries = longest_seconds(policy.retry) if policy and policy.retry else None
    idle = max(STREAM_IDLE_SECONDS if grpc or upgrade else IDLE_SECONDS, whole, tries or 0.0)
    if keeps_trying(policy) and not whole:
        # Nothing moves while a call waits. A limit of the whole would cut its answer, but not what
        # becomes another protocol.
        whole = KEEP_TRYING_SECONDS if upgrade else 0.0
        idle = idle if grpc or upgrade else KEEP_TRYING_SECONDS
    action = route_components_pb2.RouteAction(
        timeout=seconds(0.0 if grpc else whole),
        idle_timeout=seconds(idle),
        retry_policy=retry.policy,
        priority=base_pb2.HIGH if keeps_trying(policy) else base_pb2.DEFAULT,
    )
    if grpc:
        action.max_stream_duration.grpc_timeout_header_max.CopyFrom(seconds(0))
    return action
