"""What a cluster bears: retry budget, waiting calls, ejection of unreachable hosts. Pure.

A *budget* lets retries be a share of the requests under way, and always as many as one killed
instance may leave behind. A larger one than all have is lent to Envoy (see `calm`): a cluster that
changes is another one to it, and what is under way on the former is counted nowhere. Calls that
wait for a need that is away (priority HIGH) have a limit of their own, so they neither use up the
budget of others nor grow without bound.

A host is *ejected* if no connection to it comes about several times in a row, never for what
happens on one: an answer, a reset or a late answer may be the request's fault or that of a need
further down, and half of the instances less makes an overload worse. Who answers worse than its
siblings is judged elsewhere. At least half of the hosts stay, so a lone one always does.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.cluster.v3 import circuit_breaker_pb2, outlier_detection_pb2
from envoy.config.core.v3 import base_pb2
from google.protobuf.message import Message

from volery.model.needs import BUDGET
from volery.model.ports import Edge
from volery.traffic.messages import seconds

# A limit on everything, far above what one machine serves.
MAX_ACTIVE = 100_000
# Envoy's budget knows no time: what is under way at this moment. Without a floor a third of all
# requests, as a killed instance of three leaves behind, could not be retried at once.
BUDGET_FLOOR = 50
MOST_WAITING = 256
FAILURES_IN_A_ROW = 5
EJECTION_SECONDS, LONGEST_EJECTION_SECONDS = 5.0, 30.0
LOOK_SECONDS = 1.0
MOST_EJECTED_PERCENT = 50
# Envoy's own detectors that look at answers.
ANSWERS = ("consecutive_5xx", "consecutive_gateway_failure", "success_rate")
COMPARED = ("local_origin_success_rate", "failure_percentage", "failure_percentage_local_origin")


def budgets(edges: Iterable[Edge]) -> dict[str, float]:
    """The retry budget of a service: the largest any caller asks for, as a cluster has only one."""
    found: dict[str, float] = {}
    for edge in edges:
        asked = edge.policy.retry.budget if edge.policy.retry else BUDGET
        found[edge.need] = max(found.get(edge.need, BUDGET), asked)
    return found


def raised(cluster: str, budget: float) -> tuple[str, float]:
    """The runtime key, and its value, by which a cluster has a larger budget than all have."""
    return f"circuit_breakers.{cluster}.default.retry_budget.budget_percent", _percent(budget)


def thresholds() -> Message:
    """Limits of a cluster: for all requests, and for those that wait."""
    common, waiting = _unlimited(base_pb2.DEFAULT), _unlimited(base_pb2.HIGH)
    common.retry_budget.budget_percent.value = _percent(BUDGET)
    common.retry_budget.min_retry_concurrency.value = BUDGET_FLOOR
    waiting.max_retries.value = MOST_WAITING
    return circuit_breaker_pb2.CircuitBreakers(thresholds=[common, waiting])


def ejection() -> Message:
    """When a host gets no requests for a while."""
    found = outlier_detection_pb2.OutlierDetection(
        split_external_local_origin_errors=True,
        interval=seconds(LOOK_SECONDS),
        base_ejection_time=seconds(EJECTION_SECONDS),
        max_ejection_time=seconds(LONGEST_EJECTION_SECONDS),
    )
    found.max_ejection_percent.value = MOST_EJECTED_PERCENT
    found.consecutive_local_origin_failure.value = FAILURES_IN_A_ROW
    found.enforcing_consecutive_local_origin_failure.value = 100
    found.always_eject_one_host.value = False
    for detector in (*ANSWERS, *COMPARED):
        getattr(found, f"enforcing_{detector}").value = 0
    return found


def _percent(share: float) -> float:
    return round(share * 100, 6)


def _unlimited(priority: int) -> Message:
    found = circuit_breaker_pb2.CircuitBreakers.Thresholds(priority=priority)
    for limit in ("max_connections", "max_pending_requests", "max_requests"):
        getattr(found, limit).value = MAX_ACTIVE
    return found
