"""Which services are *calm*: nothing of them fails, so no breaker of theirs could act. Pure.

Envoy's admission control costs a request more than the rest of what is done for it at the gateway,
also where it does nothing. So most routes come twice: first without a breaker, for as long as the
service is calm, and then with one. That a service is calm is a runtime key of Envoy, and a *lease*:
it ends by itself unless the control plane, having looked, says so again. Nobody there to look, and
every breaker is in place; so it is in an Envoy on its fallback, which knows no such key. Other keys
that had better not stay without us are lent with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.runtime.v3 import rtds_pb2
from google.protobuf.message import Message

from volery.traffic.messages import pack, seconds

LAYER = "calm"
# A breaker looks back this long as well.
QUIET_SECONDS = 5.0
LOOK_SECONDS = 1.0
LEASE_SECONDS = 3.0


class Failures:
    """When something of a service failed last, as far as counters tell."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._counted: Mapping[str, Mapping[str, int]] = {}
        self._failed_at: dict[str, float] = {}

    def heard(self, counted: Mapping[str, Mapping[str, int]], now: float) -> None:
        """What each proxy that runs has counted, by service; any change is news, a restart's as
        well."""
        for proxy, failures in counted.items():
            before = self._counted.get(proxy, {})
            news = [service for service, count in failures.items() if before.get(service) != count]
            self._failed_at |= dict.fromkeys(news, now)
        self._counted = counted

    def calm(self, services: Iterable[str], now: float) -> frozenset[str]:
        """Those of which nothing failed for a while."""
        quiet = now - QUIET_SECONDS
        return frozenset(
            name for name in services if self._failed_at.get(name, self._begun) <= quiet
        )


def layer(services: Iterable[str]) -> dict[str, int]:
    """The runtime keys that say that these services are calm: for so many percent of requests."""
    return {_key(name): 100 for name in sorted(services)}


def lease(services: Iterable[str], others: Mapping[str, float] | None = None) -> Message:
    """Say for a moment that these services are calm, and no others; and other keys with it."""
    runtime = rtds_pb2.Runtime(name=LAYER)
    runtime.layer.update({**layer(services), **(others or {})})
    return discovery_pb2.Resource(
        name=LAYER, resource=pack(runtime), ttl=seconds(LEASE_SECONDS), version=""
    )


def while_calm(service: str) -> Message:
    """What a route says to match only while its service is calm."""
    found = base_pb2.RuntimeFractionalPercent(runtime_key=_key(service))
    found.default_value.SetInParent()
    return found


def _key(service: str) -> str:
    return f"volery.calm.{service}"
