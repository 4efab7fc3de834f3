"""The breaker of an edge, or of a service at the gateway -> Envoy's admission control. Pure.

While most of a service's requests fail, most are answered at once instead of being sent: each with
the probability by which more are asked for than twice as many as succeed (client-side throttling,
"Site Reliability Engineering", chapter 21). The few that still go prove that it is over, so the
breaker closes by itself. It lives in Envoy and works while the control plane is dead.

A *failure* here is a service that cannot do its work: not reached, cut off, too late, or an answer
502, 503 or 504 (gRPC: UNAVAILABLE, DEADLINE_EXCEEDED). Other errors say that it is there.

The filter in a listener is an empty chain, because listeners never change; routes fill it, so each
has a window of its own, and new routes begin with an empty one. While nothing fails, requests take
routes without it (see `calm`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.admission_control.v3 import admission_control_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from xds.type.v3 import typed_struct_pb2

from volery.traffic.messages import pack, seconds

FILTER = "volery.breaker"
CHAIN = "type.googleapis.com/envoy.extensions.filters.http.filter_chain.v3."
REJECTED = "denied_by_admission_control"
"""Envoy's word for a request that was answered by a breaker."""
WINDOW_SECONDS = 5.0
# Twice as many requests as succeed may go, so nothing is refused until every second one fails.
SUCCESS_PERCENT = 50.0
# The rest are probes.
MOST_REFUSED_PERCENT = 95.0
# Below, a few failures would be most of the requests.
LEAST_PER_SECOND = 3
FINE_STATUSES = ((100, 502), (505, 600))
FINE_GRPC = tuple(code for code in range(17) if code not in (4, 14))


def shell() -> Message:
    """The filter in a listener: none, until a route names one."""
    return hcm_pb2.HttpFilter(
        name=FILTER, typed_config=_chain("FilterChainConfig", {}), disabled=True
    )


@cache
def filled() -> Mapping[str, AnyMessage]:
    """What a route or a host of routes says to have a breaker."""
    admission = json_format.MessageToDict(pack(_admission()))
    breaker = {"name": "admission_control", "typed_config": admission}
    route = _chain("FilterChainConfigPerRoute", {"filter_chain": {"filters": [breaker]}})
    return {FILTER: route}


def left_out() -> Mapping[str, AnyMessage]:
    """What a route says to have none although its host has one."""
    return {FILTER: pack(route_components_pb2.FilterConfig(disabled=True))}


def _chain(kind: str, settings: Mapping[str, Any]) -> AnyMessage:
    """A message of Envoy's for which there is no Python class: by its name, as a structure."""
    found = typed_struct_pb2.TypedStruct(type_url=CHAIN + kind)
    found.value.update(settings)
    return pack(found)


def _admission() -> Message:
    found = admission_control_pb2.AdmissionControl(sampling_window=seconds(WINDOW_SECONDS))
    found.enabled.default_value.value = True
    found.enabled.runtime_key = "volery.breaker.enabled"
    found.sr_threshold.default_value.value = SUCCESS_PERCENT
    found.sr_threshold.runtime_key = "volery.breaker.success_percent"
    found.max_rejection_probability.default_value.value = MOST_REFUSED_PERCENT
    found.max_rejection_probability.runtime_key = "volery.breaker.most_refused_percent"
    found.rps_threshold.default_value = LEAST_PER_SECOND
    found.rps_threshold.runtime_key = "volery.breaker.least_per_second"
    for start, end in FINE_STATUSES:
        found.success_criteria.http_criteria.http_success_status.add(start=start, end=end)
    found.success_criteria.grpc_criteria.grpc_success_status.extend(FINE_GRPC)
    return found
