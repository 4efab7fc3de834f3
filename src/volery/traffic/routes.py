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
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.type.matcher.v3 import regex_pb2
from google.protobuf.message import Message

from volery.model.application import Need
from volery.model.ports import Edge, GatewayRoute, GatewayTraffic, ServiceTraffic
from volery.traffic.clusters import pack, seconds
from volery.traffic.split import shares, ways

GATEWAY = "gateway"
GATEWAY_SECONDS = 60.0
EDGE_SECONDS = 15.0
IDLE_SECONDS = 300.0
STREAM_IDLE_SECONDS = 3600.0
# Nothing has reached the service in these cases, so another try changes nothing but the answer.
SAFE = ("connect-failure", "refused-stream", "reset-before-request")
SAFE_RETRIES = 2
SAFE_BACKOFF = (0.005, 0.05)
OTHER_HOST_TRIES = 5
# Envoy's `reset` means: no answer at all, be it cut or not in time.
RETRY_ON = {
    "connect": "connect-failure",
    "reset": "reset",
    "timeout": "reset",
    "5xx": "5xx",
    "gateway-error": "gateway-error",
}
# gRPC reports failure in its own status, with HTTP status 200.
GRPC_RETRY_ON = {"5xx": "internal,unavailable", "gateway-error": "unavailable"}
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
    routes = list(_to_service("/", edge.need, services, edge.policy))
    host = route_components_pb2.VirtualHost(name=edge.need, domains=["*"], routes=routes)
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
    matching.sort(key=lambda route: (len(_prefix(route.path)), len(route.host or "")), reverse=True)
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


def _prefix(path: str) -> str:
    return path.rstrip("/")


def _to_service(
    path: str, name: str, services: Services, policy: Need | None, strip: str | None = None
) -> Iterator[Message]:
    service = services.get(name)
    if service is None or service.protocol == "tcp" or not shares(service):
        yield _unavailable(path, name, service)
        return
    for upgrade in (True, False) if service.protocol == "http" else (False,):
        limits = _limits(service, policy, upgrade)
        for way in ways(name, service, users=policy is None, upgrade=upgrade):
            match = _match(path, upgrade)
            match.headers.extend(way.headers)
            yield route_components_pb2.Route(
                name=name,
                match=match,
                route=_action(limits, way.target, strip),
                response_headers_to_add=way.answer,
            )


def _unavailable(path: str, name: str, service: ServiceTraffic | None) -> Message:
    why = "has no instance that takes requests now"
    if service is not None and service.protocol == "tcp":
        why = "speaks tcp, which has no paths; services reach it through `needs`"
    body = f"503: {name} {why}\n"
    answer = _answer(503, body)
    return route_components_pb2.Route(name=name, match=_match(path), direct_response=answer)


def _answer(status: int, body: str) -> Message:
    return route_components_pb2.DirectResponseAction(
        status=status, body=base_pb2.DataSource(inline_string=body)
    )


def _match(path: str, upgrade: bool = False) -> Message:
    prefix = _prefix(path)
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
    if strip and _prefix(strip):
        action.regex_rewrite.CopyFrom(
            regex_pb2.RegexMatchAndSubstitute(
                pattern=regex_pb2.RegexMatcher(regex=f"^{re.escape(_prefix(strip))}(/|$)"),
                substitution="/",
            )
        )
    return action


def _limits(service: ServiceTraffic, policy: Need | None, upgrade: bool) -> Message:
    """Timeouts and retries of a route."""
    grpc = service.protocol == "grpc"
    given = policy.timeout if policy else None
    first_byte = EDGE_SECONDS if policy else GATEWAY_SECONDS
    if upgrade or (grpc and given is None):
        first_byte = 0.0
    elif given is not None:
        first_byte = given if grpc else 0.0
    action = route_components_pb2.RouteAction(
        timeout=seconds(0.0 if grpc or given is None else given),
        idle_timeout=seconds(STREAM_IDLE_SECONDS if grpc or upgrade else IDLE_SECONDS),
        retry_policy=_retries(service, policy, first_byte),
    )
    if grpc:
        action.max_stream_duration.grpc_timeout_header_max.CopyFrom(seconds(0))
    return action


def _retries(service: ServiceTraffic, policy: Need | None, first_byte: float) -> Message:
    retry = policy.retry if policy and policy.retry and policy.retry.attempts > 1 else None
    conditions = dict.fromkeys(SAFE)
    tries, per_try, (base, cap) = SAFE_RETRIES, first_byte, SAFE_BACKOFF
    if retry is not None:
        conditions |= dict.fromkeys(RETRY_ON[on] for on in retry.on)
        if service.protocol == "grpc":
            conditions |= dict.fromkeys(GRPC_RETRY_ON[on] for on in retry.on if on in GRPC_RETRY_ON)
        tries, base, cap = retry.attempts - 1, retry.backoff.base, retry.backoff.cap
        whole = (policy.timeout if policy else None) or EDGE_SECONDS
        share = whole / retry.attempts if "timeout" in retry.on else first_byte
        per_try = retry.per_try or share
    result = route_components_pb2.RetryPolicy(
        retry_on=",".join(conditions),
        retry_host_predicate=[_another_host()],
        host_selection_retry_max_attempts=OTHER_HOST_TRIES,
    )
    result.num_retries.value = tries
    result.retry_back_off.base_interval.CopyFrom(seconds(max(base, 0.001)))
    result.retry_back_off.max_interval.CopyFrom(seconds(max(cap, base, 0.001)))
    if per_try:
        result.per_try_timeout.CopyFrom(seconds(per_try))
    return result


def _another_host() -> Message:
    return route_components_pb2.RetryPolicy.RetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=pack(previous_hosts_pb2.PreviousHostsPredicate()),
    )
