"""When a request is tried again -> Envoy retry policies. Pure.

What provably never reached a service (SAFE) is always tried again. What was cut off or never
answered is tried again if a repetition does no harm: by default the idempotent methods. An answer
is an answer: no status is retried unless an owner says so, so retries of several layers do not
multiply (the failure of a layer below arrives as a status), overload is not amplified, and a
`Retry-After` is nobody's to ignore. What is late is the exception: where no timeout is written,
each layer repeats it before the layer below has given up.

*keep_trying* waits for a need that is away: retries with growing waits until the time is over,
bounded by a limit of waiting requests that is separate from all others (priority HIGH).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from google.protobuf.message import Message

from volery.model.needs import KEEP_TRYING_SECONDS, Backoff, Need, Retry
from volery.model.ports import ServiceTraffic
from volery.traffic.messages import pack, seconds

EDGE_SECONDS = 15.0
# Nothing has reached the service in these cases, so another try changes nothing but the answer.
SAFE = ("connect-failure", "refused-stream", "reset-before-request")
SAFE_RETRIES = 2
SAFE_BACKOFF = Backoff(base=0.005, cap=0.05)
KEEP_TRYING_BACKOFF = Backoff(base=0.025, cap=1.0)
# The time limit ends it; this is only a number that is never reached.
UNTIL_TIMEOUT = 100_000
OTHER_HOST_TRIES = 5
LONGEST_RETRY_AFTER_SECONDS = 86_400.0
IDEMPOTENT = "GET|HEAD|OPTIONS|PUT|DELETE|TRACE"
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
DEFAULT = Retry()


@dataclass(frozen=True)
class Retries:
    """`policy` for the requests of these methods: a pattern, or None for all that are left."""

    policy: Message
    methods: str | None = None


def keeps_trying(need: Need | None) -> bool:
    """Whether calls wait for a need that is away."""
    return need is not None and need.when_unavailable == "keep_trying"


def retries(
    service: ServiceTraffic, need: Need | None, first_byte: float, upgrade: bool
) -> Iterator[Retries]:
    """The retry policies of a route, the first whose methods fit counts.

    `first_byte`: seconds until an answer must begin, 0 for no limit. `need`: None at the gateway.
    """
    retry = (need.retry if need else None) or DEFAULT
    safe, whole = _policy(service, need, first_byte, ()), _conditions(service, need, retry)
    repeats = not upgrade and whole and (retry.attempts > 1 or keeps_trying(need))
    if repeats and (retry.methods == "all" or service.protocol != "grpc"):
        methods = None if retry.methods == "all" else IDEMPOTENT
        yield Retries(_policy(service, need, first_byte, whole), methods)
        if methods is None:
            return
    yield Retries(safe)


def _conditions(service: ServiceTraffic, need: Need | None, retry: Retry) -> tuple[str, ...]:
    """Under which a request that may have reached the service is sent again."""
    if retry.budget == 0:
        return ()
    on = dict.fromkeys((*retry.on, *(("gateway-error",) if keeps_trying(need) else ())))
    found = [RETRY_ON[name] for name in on]
    if service.protocol == "grpc":
        found += [GRPC_RETRY_ON[name] for name in on if name in GRPC_RETRY_ON]
    return tuple(dict.fromkeys(found))


def _policy(
    service: ServiceTraffic, need: Need | None, first_byte: float, conditions: tuple[str, ...]
) -> Message:
    retry = (need.retry if need else None) or DEFAULT
    tries, backoff = SAFE_RETRIES, SAFE_BACKOFF
    if conditions:
        tries, backoff = retry.attempts - 1, retry.backoff
    if keeps_trying(need):
        backoff = retry.backoff if need and need.retry else KEEP_TRYING_BACKOFF
        tries = _tries_of_a_stream(need, backoff) if service.protocol == "grpc" else UNTIL_TIMEOUT
    result = route_components_pb2.RetryPolicy(
        retry_on=",".join(dict.fromkeys((*SAFE, *conditions))),
        retry_host_predicate=[_another_host()],
        host_selection_retry_max_attempts=OTHER_HOST_TRIES,
    )
    result.num_retries.value = tries
    base, cap = max(backoff.base, 0.001), max(backoff.cap, backoff.base, 0.001)
    result.retry_back_off.base_interval.CopyFrom(seconds(base))
    result.retry_back_off.max_interval.CopyFrom(seconds(cap))
    result.rate_limited_retry_back_off.reset_headers.add(name="retry-after")
    result.rate_limited_retry_back_off.max_interval.CopyFrom(seconds(LONGEST_RETRY_AFTER_SECONDS))
    if per_try := _per_try(need, retry, first_byte, bool(conditions)):
        result.per_try_timeout.CopyFrom(seconds(per_try))
    return result


def _per_try(need: Need | None, retry: Retry, first_byte: float, repeats: bool) -> float:
    if not repeats:
        return first_byte
    whole = (need.timeout if need else None) or EDGE_SECONDS
    share = whole / retry.attempts if "timeout" in retry.on else first_byte
    return retry.per_try or share


def _tries_of_a_stream(need: Need | None, backoff: Backoff) -> int:
    """A time limit would cut streams, so the waits are counted: on average half of the longest."""
    whole = (need.timeout if need else None) or KEEP_TRYING_SECONDS
    return math.ceil(whole / max(backoff.cap / 2, 0.001))


def _another_host() -> Message:
    return route_components_pb2.RetryPolicy.RetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=pack(previous_hosts_pb2.PreviousHostsPredicate()),
    )
