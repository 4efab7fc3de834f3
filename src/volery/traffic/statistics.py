"""What Envoy counts for us, and what it takes for a failure. Pure.

Envoy's own statistics know neither microseconds, nor which need a caller asked for, nor whether a
gRPC call failed or an answer broke off half way. So every listener has *statistics loggers*: they
see each request when it is over and count it in statistics named `volery.WHAT.via.CALLER.need.
SERVICE.to.CLUSTER`, where the caller is `gateway` or `storefront~a`; and how fast single instances
answer in `volery.served.to.CLUSTER.on.NUMBER`. `counters` reads them back.

Terms: *broken* answers are those that Envoy's counters of a cluster take for a success; among them
are some that it *counted* as failures all the same, and some calls that the client *left*. What
the client *gave up* before there was an answer is no request and no failure; how long it had waited
is counted all the same. (A logger complains, in Envoy's log under `misc`, of a time that a request
does not have; a stream's, for instance. That is switched off in `proxy`.)
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as entry_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from google.protobuf.message import Message

from volery.traffic.clusters import NUMBER, SLOT, SLOT_METADATA
from volery.traffic.messages import pack

PREFIX = "volery"
REQUESTS, FAILURES, LATENCY = "requests", "failures", "latency"
BROKEN, COUNTED, LEFT, GIVEN_UP = "broken", "counted", "left", "given_up"
CONNECTED, REFUSED, ENDED = "connected", "refused", "ended"
SERVED, TO, ON = "served", "to", "on"
GRPC_FAULTS = (
    *("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
)
"""gRPC statuses that mean a server's fault: those that correspond to an HTTP status of 5xx."""
FLAGS = ("UH", "UF", "UO", "UC", "UT", "UR", "UPE", "UMSDR", "NC", "DT")
"""How Envoy marks a request that found nobody, or whose answer was cut, wrong or not in time."""
CLIENT = ("DC", "DR")
"""How Envoy marks what the client cut."""
ANSWERED_FOR = tuple(name for name in GRPC_FAULTS if name != "UNKNOWN")
"""What Envoy answers a gRPC call in a server's place, marked, and counts as a failure itself. An
answer that was cut off has no status: UNKNOWN."""
THINKING = "%COMMON_DURATION(DS_RX_END:DS_TX_BEG:us)%"
"""From the moment the request was complete to the moment the answer began."""
ANSWERING = "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%"
"""The same of the last try alone: what a former one took says nothing of this instance."""
WAITED = "%DURATION%"
"""In milliseconds, as that is all there is when a request never ended."""
CONNECTING = "%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%"
NOT_CONNECTED = ("UF", "UH", "UO", "NC")

Config = stats_pb2.Config
Filter = accesslog_pb2.AccessLogFilter


def of_requests(caller: str) -> list[Message]:
    """Loggers for everything a caller sends over HTTP. Its routes must be named by service."""
    tags = (("via", caller), ("need", "%ROUTE_NAME%"), ("to", "%UPSTREAM_CLUSTER%"))
    instance = ((TO, "%UPSTREAM_CLUSTER%"), (ON, f"%UPSTREAM_METADATA({SLOT_METADATA}:{NUMBER})%"))
    served = _histogram(SERVED, instance, ANSWERING)
    return [
        _logger(_answered(), _counter(REQUESTS, tags), _histogram(LATENCY, tags, THINKING), served),
        _logger(_any(_status(500), _cut_off(), _grpc_fault(GRPC_FAULTS)), _counter(FAILURES, tags)),
        _logger(_any(_cut_off(), _grpc_fault(GRPC_FAULTS)), _counter(BROKEN, tags)),
        _logger(_all(_flags(FLAGS), _grpc_fault(ANSWERED_FOR)), _counter(COUNTED, tags)),
        _logger(_all(_flags(CLIENT), _grpc_fault(("UNKNOWN",))), _counter(LEFT, tags)),
        _logger(_status_below(100), _histogram(GIVEN_UP, tags, WAITED)),
    ]


def of_connections(caller: str, need: str) -> list[Message]:
    """Loggers for the TCP connections of one caller to one need."""
    slot = f"{need}~%UPSTREAM_METADATA({SLOT_METADATA}:{SLOT})%"
    tags = (("via", caller), ("need", need), ("to", slot))
    how = (("how", "%UPSTREAM_DETECTED_CLOSE_TYPE%"), *tags)
    begun, over = _type("TcpUpstreamConnected"), _type("TcpConnectionEnd")
    return [
        _logger(begun, _counter(CONNECTED, tags), _histogram(LATENCY, tags, CONNECTING)),
        _logger(_all(over, _flags(NOT_CONNECTED)), _counter(REFUSED, tags)),
        _logger(over, _counter(ENDED, how)),
    ]


def _logger(when: Message, *stats: Message) -> Message:
    settings = Config(stat_prefix=PREFIX)
    for stat in stats:
        many = settings.counters if isinstance(stat, Config.Counter) else settings.histograms
        many.append(stat)
    return accesslog_pb2.AccessLog(
        name="envoy.access_loggers.stats", filter=when, typed_config=pack(settings)
    )


def _stat(name: str, tags: Iterable[tuple[str, str]]) -> Message:
    """Tags at the beginning that are always the same are part of the name, which is not formatted
    anew for every request, and what follows the first other one is part of its value: a request
    pays for every tag. What the statistic is called in the end does not differ."""
    given = list(tags)
    while given and "%" not in given[0][1]:
        name = ".".join((name, *given.pop(0)))
    (first, value), *more = given
    whole = ".".join((value, *chain.from_iterable(more)))
    return Config.Stat(name=name, tags=[Config.Tag(name=first, value_format=whole)])


def _counter(name: str, tags: Iterable[tuple[str, str]]) -> Message:
    counter = Config.Counter(stat=_stat(name, tags))
    counter.value_fixed.value = 1
    return counter


def _histogram(name: str, tags: Iterable[tuple[str, str]], value: str) -> Message:
    unit = Config.Histogram.Milliseconds if value == WAITED else Config.Histogram.Microseconds
    return Config.Histogram(stat=_stat(name, tags), unit=unit, value_format=value)


def _answered() -> Message:
    """Not what the client gave up before there was an answer: that has no status."""
    return _status(100)


def _cut_off() -> Message:
    """Not what became a WebSocket: there the server hanging up is how it ends."""
    return _all(_flags(FLAGS), _grpc(invert=True), _status(200), _status_below(500))


def _grpc_fault(names: Iterable[str]) -> Message:
    return _all(_grpc(), _answered(), _grpc_status(names))


def _grpc(invert: bool = False) -> Message:
    found = Filter()
    found.header_filter.header.name = "content-type"
    found.header_filter.header.string_match.prefix = "application/grpc"
    found.header_filter.header.invert_match = invert
    found.header_filter.header.treat_missing_header_as_empty = True
    return found


def _grpc_status(names: Iterable[str]) -> Message:
    statuses = [accesslog_pb2.GrpcStatusFilter.Status.Value(name) for name in names]
    return Filter(grpc_status_filter=accesslog_pb2.GrpcStatusFilter(statuses=statuses))


def _flags(names: Iterable[str]) -> Message:
    return Filter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=names))


def _status(least: int) -> Message:
    return _compared(accesslog_pb2.ComparisonFilter.GE, least)


def _status_below(limit: int) -> Message:
    return _compared(accesslog_pb2.ComparisonFilter.LE, limit - 1)


def _compared(operator: int, value: int) -> Message:
    found = Filter()
    comparison = found.status_code_filter.comparison
    comparison.op = operator
    comparison.value.default_value = value
    comparison.value.runtime_key = f"volery.statistics.status_{value}"
    return found


def _type(name: str) -> Message:
    kinds = [entry_pb2.AccessLogType.Value(name)]
    return Filter(log_type_filter=accesslog_pb2.LogTypeFilter(types=kinds))


def _any(*filters: Message) -> Message:
    return Filter(or_filter=accesslog_pb2.OrFilter(filters=filters))


def _all(*filters: Message) -> Message:
    return Filter(and_filter=accesslog_pb2.AndFilter(filters=filters))
