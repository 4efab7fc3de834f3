"""What only we may say does not enter from outside. Pure.

At the gateway `x-envoy-*` and `x-volery-*` are taken off, and the members `fit` and `volery-*` of
`baggage`; and it is said where a request came from. Headers are changed before there is a route,
which costs little. For baggage there is a script in a filter; a request whose baggage can have no
member of ours takes a route without it, where there is one (see `calm`).
"""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.matching.v3 import extension_matcher_pb2
from envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from volery.traffic.messages import pack

FILTER = "volery.border"
# For a client on this machine Envoy itself would name the machine's own address.
CAME_FROM = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
INTERNAL = ("x-volery-", "x-envoy-")
# Any byte: a dot would not match what is no UTF-8, and such a header would pass unread.
PRESENT = r"\C*"
# A member of ours has its key written out, or some of it in `%` codes.
PERHAPS_OURS = ("fit", "volery-", "%")
# Libraries decode the key of a member and pass it on decoded, so it is looked at as they see it.
BORDER = """
local function ours(member)
  local key = string.gsub(string.match(member, "^[^=;]*"), "%+", " ")
  key = string.gsub(key, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  key = string.match(key, "^%s*(.-)%s*$")
  return key == "fit" or string.sub(key, 1, 7) == "volery-"
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local baggage = headers:get("baggage")
  if baggage == nil then return end
  local kept = {}
  for member in string.gmatch(baggage, "[^,]+") do
    if not ours(member) then kept[#kept + 1] = member end
  end
  headers:remove("baggage")
  if #kept > 0 then headers:add("baggage", table.concat(kept, ",")) end
end
"""


def shell() -> Message:
    """The filter for baggage, for the routes that switch it on. Lua costs a request more than all
    the rest of the gateway, so it is left out where there is no baggage at all."""
    script = lua_pb2.Lua()
    script.default_source_code.inline_string = BORDER
    guarded = extension_matcher_pb2.ExtensionWithMatcher(
        extension_config=extension_pb2.TypedExtensionConfig(
            name="envoy.filters.http.lua", typed_config=pack(script)
        )
    )
    skip = guarded.xds_matcher.matcher_list.matchers.add()
    has_none = skip.predicate.not_matcher.single_predicate
    has_none.input.name = "baggage"
    has_none.input.typed_config.CopyFrom(
        pack(http_inputs_pb2.HttpRequestHeaderMatchInput(header_name="baggage"))
    )
    has_none.value_match.safe_regex.regex = PRESENT
    has_none.value_match.safe_regex.google_re2.SetInParent()
    skip.on_match.action.name = "skip"
    skip.on_match.action.typed_config.CopyFrom(pack(skip_action_pb2.SkipFilter()))
    return hcm_pb2.HttpFilter(name=FILTER, typed_config=pack(guarded), disabled=True)


def on() -> Mapping[str, AnyMessage]:
    """What a route says to have baggage looked through."""
    return {FILTER: pack(route_components_pb2.FilterConfig(config=AnyMessage()))}


def harmless() -> list[Message]:
    """Together they match a request whose baggage has no member of ours, or that has none. Not a
    pattern: that would take its time with nothing, too."""
    return [_lacks(text) for text in PERHAPS_OURS]


def _lacks(text: str) -> Message:
    found = route_components_pb2.HeaderMatcher(
        name="baggage", invert_match=True, treat_missing_header_as_empty=True
    )
    found.string_match.contains = text
    return found


def our_headers() -> Message:
    """Internal headers do not come in; where the request came from is said. Done before a route is
    looked for, which spares every request a filter."""
    early = header_mutation_pb2.HeaderMutation()
    for prefix in INTERNAL:
        early.mutations.add().remove_on_match.key_matcher.prefix = prefix
    from_whom = early.mutations.add().append
    from_whom.header.key, from_whom.header.value = "x-forwarded-for", CAME_FROM
    from_whom.append_action = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    return extension_pb2.TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation", typed_config=pack(early)
    )
