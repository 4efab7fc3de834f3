"""Why Envoy answered in a service's place, said in a header of the answer. Pure.

`x-volery-reason: catalog has no instance that takes requests`: the need, and why. Only for answers
that Envoy gives itself; what a service answers is its own. Where another try now would be
pointless the answer says so: `retry-after`, and a mark that no Envoy further out retries.
"""

from __future__ import annotations

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf.message import Message

from volery.traffic import away, breaker, shedding
from volery.traffic.messages import pack

REASON = "x-volery-reason"
RETRY_AFTER_SECONDS = 1
# Envoy's own word for: whoever gets this has been retried or refused already.
DONE = "x-envoy-ratelimited"

Filter = accesslog_pb2.AccessLogFilter
_Header = base_pb2.HeaderValueOption
# By the flag with which Envoy marks its answer; the first that fits counts.
BY_FLAG = {
    "UH": "has no instance that takes requests",
    "UO": "has more requests than it may have",
    "UF": "cannot be reached",
    "UT": "did not answer in time",
    "DT": "did not answer in time",
    "UC": "cut the connection",
    "UR": "cut the connection",
    "UPE": "answered what is not HTTP",
}
FULL = ("UH", "UO", "UF")
"""Where a client had better wait."""


def replies(*, marked: bool) -> Message:
    """What is added to the answers that Envoy gives itself. They are marked where an Envoy of ours
    may be further out; beyond the gateway are users, to whom the mark would be a lie."""
    mappers = [
        _mapper(_detail(breaker.REJECTED), "fails most requests; a few are sent to see its end"),
        _mapper(_detail(shedding.REJECTED), "is asked for more than it can answer in time"),
        _too_large(),
        _mapper(_silence(), BY_FLAG["UT"], wait=False),
        _mapper(_nobody(), BY_FLAG["UH"]),
        *(_mapper(_flag(flag), why, wait=flag in FULL) for flag, why in BY_FLAG.items()),
    ]
    for mapper in mappers if marked else ():
        mapper.headers_to_add.append(_header(DONE, "true"))
    return hcm_pb2.LocalReplyConfig(mappers=mappers)


def header(text: str) -> Message:
    """The header with a reason."""
    return _header(REASON, text)


def _mapper(when: Message, why: str, wait: bool = True) -> hcm_pb2.ResponseMapper:
    headers = [header(f"%ROUTE_NAME% {why}")]
    if wait:
        headers.append(_header("retry-after", str(RETRY_AFTER_SECONDS)))
    return hcm_pb2.ResponseMapper(filter=when, headers_to_add=headers)


def _header(name: str, value: str) -> Message:
    return _Header(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=_Header.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _flag(flag: str) -> Message:
    return Filter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=[flag]))


def _too_large() -> hcm_pb2.ResponseMapper:
    """Envoy's 507 would say that the service had no room, and count as if it were well."""
    why = "cannot be reached, and the request is too large to be kept until then"
    found = _mapper(_detail("request_payload_exceeded_retry_buffer_limit"), why)
    found.status_code.value = 503
    return found


def _nobody() -> Message:
    """The last try went to nobody, who is listed so that others can wait."""
    is_it = _expression(f"upstream.address == '{away.NOWHERE}'")
    return Filter(and_filter=accesslog_pb2.AndFilter(filters=[_flag("UF"), is_it]))


def _silence() -> Message:
    """Nothing moved for too long. With 408 it was the caller that did not go on."""
    return _expression("response.code_details == 'stream_idle_timeout' && response.code == 504")


def _detail(detail: str) -> Message:
    """What a filter answers has no flag, only a detail."""
    return _expression(f"response.code_details == '{detail}'")


def _expression(text: str) -> Message:
    expression = cel_pb2.ExpressionFilter(expression=text)
    return Filter(
        extension_filter=accesslog_pb2.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=pack(expression)
        )
    )
