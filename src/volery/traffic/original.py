"""What a user asked for, of which a route with `strip` takes something off. Pure.

The access log tells the path as it is in the end. Envoy would note what it was in a header, which
the service would see; so the routes that change it note it beside the request.
"""

from __future__ import annotations

import json

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from volery.traffic.messages import pack

FILTER = "volery.original"
NOTE = "volery.path"
# Query strings may hold secrets: the path is logged without.
PATH = "%PATH(NQ:PATH)%"
_EITHER = [
    {"command": "FILTER_STATE", "param": f"{NOTE}:PLAIN"},
    {"command": "PATH", "param": "NQ:PATH"},
]
LOGGED = f"%COALESCE({json.dumps({'operators': _EITHER})})%"
"""For the access log: the path as it was asked for."""


def shell() -> Message:
    """The filter in a listener, for the routes that switch it on."""
    noted = value_pb2.FilterStateValue(object_key=NOTE, factory_key="envoy.string")
    noted.format_string.text_format_source.inline_string = PATH
    settings = set_filter_state_pb2.Config(on_request_headers=[noted])
    return hcm_pb2.HttpFilter(name=FILTER, typed_config=pack(settings), disabled=True)


def on() -> dict[str, AnyMessage]:
    """What a route says to switch it on."""
    return {FILTER: pack(route_components_pb2.FilterConfig(config=AnyMessage()))}
