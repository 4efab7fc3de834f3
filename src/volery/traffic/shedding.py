"""How many calls of an edge may be under way at once -> Envoy's adaptive concurrency. Pure.

Where an owner says how long a call may take, more calls than can be answered in that time are not
sent but answered at once: the limit shrinks while the median takes longer than a third of it, and
grows again while it does not. So a callee that is asked for too much works on what can still be
in time. Envoy would find out by itself how fast a callee is, but by letting next to nothing through
for a moment once a minute; so it is told.

Four times a second the limit L becomes gL + sqrt(gL), g being the time aimed at over the median,
between 1/2 and 2. At rest it is so high that the median is a little more than what is aimed at:
1.03 times with 1,000 under way, 1.13 with 64, 1.25 with 20. The rest of the timeout is for the
slower half of the calls, and for what is let through until the next median is known.

What may last (streams, upgrades, calls without a time limit) has no limit here.
"""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.adaptive_concurrency.v3 import adaptive_concurrency_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from volery.model.fields import SHORTEST_SECONDS
from volery.model.needs import Need
from volery.traffic.messages import pack, seconds

FILTER = "volery.shedding"
REJECTED = "reached_concurrency_limit"
"""Envoy's word for a request that was one too many."""
# Envoy adds a quarter, so a third of the time is aimed at.
SHARE = 0.26
# As many as one that answers 25 a second would answer in time. A limit begins with it, and were it
# higher, a slow callee that is asked for too much would be too late for every single call.
LEAST_A_SECOND, LEAST, MOST_AT_LEAST, MOST = 25, 16, 64, 1_000
UPDATE_SECONDS = 0.25


def sheds(need: Need | None) -> bool:
    """Whether calls of this edge may be too many."""
    return need is not None and bool(need.timeout) and need.when_unavailable == "fail_fast"


def shell(need: Need) -> Message:
    """The filter in a listener, for the routes that switch it on."""
    found = adaptive_concurrency_pb2.AdaptiveConcurrency()
    gradient = found.gradient_controller_config
    gradient.sample_aggregate_percentile.value = 50
    gradient.concurrency_limit_params.max_concurrency_limit.value = MOST
    gradient.concurrency_limit_params.concurrency_update_interval.CopyFrom(seconds(UPDATE_SECONDS))
    timeout = need.timeout or 0.0
    aimed_at = seconds(max(timeout * SHARE, SHORTEST_SECONDS))
    gradient.min_rtt_calc_params.fixed_value.CopyFrom(aimed_at)
    least = max(LEAST, min(MOST_AT_LEAST, round(timeout * LEAST_A_SECOND)))
    gradient.min_rtt_calc_params.min_concurrency.value = least
    found.enabled.default_value.value = True
    found.enabled.runtime_key = "volery.shedding.enabled"
    return hcm_pb2.HttpFilter(name=FILTER, typed_config=pack(found), disabled=True)


def on() -> dict[str, AnyMessage]:
    """What a route says to switch it on."""
    return {FILTER: pack(route_components_pb2.FilterConfig(config=AnyMessage()))}
