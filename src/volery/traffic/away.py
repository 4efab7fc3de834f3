"""Where calls wait for a need of which no instance takes requests. Pure.

Envoy answers at once for a cluster without hosts, and does not try again. So while a need is away
and some caller keeps trying, its clusters list *nobody*: an address at which no connection ever
succeeds. Connections that fail are retried, and the first try after an instance has come finds it.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3 import address_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2
from google.protobuf.message import Message

from volery.model.ports import Edge, ServiceTraffic

# A Unix socket: unlike a port it can never be somebody else's.
NOWHERE = "/nonexistent/volery-nobody"


def awaited(edges: Iterable[Edge]) -> frozenset[str]:
    """The needs for which some caller waits."""
    return frozenset(edge.need for edge in edges if edge.policy.when_unavailable == "keep_trying")


def is_away(service: ServiceTraffic) -> bool:
    """Whether no instance takes requests."""
    return all(item.draining for group in service.slots.values() for item in group.endpoints)


def nobody() -> Message:
    """The endpoint that never answers; without a host name, so that it is nobody's instance."""
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(
            address=address_pb2.Address(pipe=address_pb2.Pipe(path=NOWHERE))
        ),
        health_status=health_check_pb2.HEALTHY,
    )
    endpoint.load_balancing_weight.value = 1
    return endpoint
