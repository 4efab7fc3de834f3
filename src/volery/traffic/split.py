"""One service -> the ways its requests may take to a group, in the order to try them. Pure.

A *way* says which requests take it, where they go, and what is said on the way. A service of which
nothing is being released has one: everything, by weight. While there is a canary that can answer:
what already came through a canary (*tagged*, where it takes that), what is sent there on purpose
(*override*), what is copied to it (*mirror*), the first request of a user to be remembered
(*newcomer*), and the rest.

The tag is the member `volery-track=canary` of `baggage`. Services pass it on; the gateway lets none
in. A group is chosen once for each request: no retry leaves it, so the canary's failures are its
own and are seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.message import Message

from volery.model.deploy import Override, Sticky
from volery.model.ports import ServiceTraffic
from volery.model.state import SLOTS, SlotName
from volery.traffic.clusters import slot_cluster

# Envoy's weights are whole numbers. They always sum up to the same, because who is sent where by a
# hash is decided by its remainder.
WHOLE = 1_000_000
TAG = "volery-track=canary"
TAGGED = r"(.*,)?[ \t]*volery-track[ \t]*=[ \t]*canary[ \t]*([,;].*)?"
SAFE_METHODS = "GET|HEAD|OPTIONS"
REQUEST_ID = "x-request-id"
# The id becomes a cookie's value, and a client may have chosen it.
HARMLESS = "[A-Za-z0-9._~-]+"
COOKIE_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"
# A copy that is never answered must not stay for ever. Envoy takes the header off again.
MIRROR_MILLISECONDS = 60_000
MIRROR_TIMEOUT = "x-envoy-upstream-rq-timeout-ms"

_Append = base_pb2.HeaderValueOption


@dataclass(frozen=True)
class Way:
    """`headers` all match; `target` is what a route's action is to have; `answer` is added to the
    response."""

    target: Message
    headers: tuple[Message, ...] = ()
    answer: tuple[Message, ...] = ()


def shares(service: ServiceTraffic) -> dict[SlotName, float]:
    """The weights that make sense now: of slots that can answer, or of all if none can."""
    wanted = {slot: group.weight for slot, group in service.slots.items() if group.weight > 0}
    serving = {slot: weight for slot, weight in wanted.items() if _serves(service, slot)}
    return serving or wanted


def parts(weights: Mapping[SlotName, float], canary: SlotName | None) -> dict[SlotName, int]:
    """Percentages as parts of WHOLE, in the order in which they divide the range of a hash.

    The canary's range begins at 0 and the baseline's ends at the top, so that either grows without
    losing anyone and shrinks without moving anyone else. What a group that cannot answer leaves,
    and what rounding leaves, falls to the largest: the canary's share is what it was meant to be.
    """
    largest = max(weights, key=lambda slot: (weights[slot], slot != canary))
    scale = WHOLE / max(100.0, sum(weights.values()))
    found = {
        slot: max(1, round(weights[slot] * scale))
        for slot in sorted(weights, key=lambda slot: (slot != canary, slot))
    }
    found[largest] += WHOLE - sum(found.values())
    return found


def ways(
    name: str, service: ServiceTraffic, users: bool, upgrade: bool, ours: bool = False
) -> Iterator[Way]:
    """The ways to a service, best match first; one without weights is asked where it will be.

    `users`: for requests from outside, which carry no tag and may be given a cookie. `upgrade`: for
    requests that become another protocol, which are neither copied nor given a cookie. `ours`: for
    requests of ours, which a tag leads to the canary whatever else is tagged.
    """
    split, weights = service.split, shares(service) or {SLOTS[0]: 100.0}
    canary = split.canary if split.canary and _serves(service, split.canary) else None
    rest = _weighted(name, parts(weights, canary), canary)
    if canary is not None:
        if ours or (split.tagged and not users):
            yield Way(_weighted(name, {canary: WHOLE}, None), (matched("baggage", TAGGED),))
        if split.override is not None:
            yield Way(_weighted(name, {canary: WHOLE}, canary), (_chosen(split.override),))
        if canary not in weights and not upgrade:
            yield from _mirrored(name, service, canary, rest)
    if split.sticky is not None and canary in weights and len(weights) > 1:
        if users and not upgrade:
            yield from _newcomers(split.sticky, rest)
        rest = _hashed(rest, split.sticky)
    yield Way(rest)


def _serves(service: ServiceTraffic, slot: SlotName) -> bool:
    group = service.slots.get(slot)
    return group is not None and any(not endpoint.draining for endpoint in group.endpoints)


def _weighted(name: str, found: Mapping[SlotName, int], tagging: SlotName | None) -> Message:
    target = route_components_pb2.RouteAction()
    for slot, part in found.items():
        cluster = target.weighted_clusters.clusters.add(name=slot_cluster(name, slot))
        cluster.weight.value = part
        if slot == tagging:
            cluster.request_headers_to_add.extend(_tag())
    return target


def _tag() -> tuple[Message, Message]:
    """Add the tag to the members that are there, on one line: some libraries read only the first.

    Both conditions look at the request as it came, so exactly one of the two acts.
    """
    return (
        _Append(
            header=base_pb2.HeaderValue(
                key="baggage", value=f"%CEL(request.headers['baggage'])%,{TAG}"
            ),
            append_action=_Append.OVERWRITE_IF_EXISTS,
        ),
        _Append(
            header=base_pb2.HeaderValue(key="baggage", value=TAG),
            append_action=_Append.ADD_IF_ABSENT,
        ),
    )


def _chosen(override: Override) -> Message:
    if override.cookie is not None:
        cookie = f'(.*;)?[ ]*{_literal(override.cookie)}="?{_literal(override.value)}"?[ ]*(;.*)?'
        return matched("cookie", cookie)
    matcher = route_components_pb2.HeaderMatcher(name=override.header)
    matcher.string_match.exact = override.value
    return matcher


def _mirrored(name: str, service: ServiceTraffic, canary: SlotName, rest: Message) -> Iterator[Way]:
    """A gRPC call may be a stream, which nobody could copy without keeping it open."""
    if service.split.mirror <= 0 or service.protocol == "grpc":
        return
    target = route_components_pb2.RouteAction()
    target.CopyFrom(rest)
    target.request_mirror_policies.append(_copy(slot_cluster(name, canary), service.split.mirror))
    methods = () if service.split.mirror_all else (matched(":method", SAFE_METHODS),)
    yield Way(target, methods)


def _copy(cluster: str, percent: float) -> Message:
    limit = _Append(
        header=base_pb2.HeaderValue(key=MIRROR_TIMEOUT, value=str(MIRROR_MILLISECONDS)),
        append_action=_Append.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    policy = route_components_pb2.RouteAction.RequestMirrorPolicy(
        cluster=cluster,
        disable_shadow_host_suffix_append=True,
        request_headers_mutations=[
            mutation_rules_pb2.HeaderMutation(append=option) for option in (*_tag(), limit)
        ],
    )
    policy.trace_sampled.value = False
    fraction = policy.runtime_fraction.default_value
    fraction.numerator = round(percent * WHOLE / 100)
    fraction.denominator = percent_pb2.FractionalPercent.MILLION
    return policy


def _newcomers(sticky: Sticky, rest: Message) -> Iterator[Way]:
    """Their request's id decides, and is given to them: the second request goes where the first
    did. Only users get cookies: a service that kept one would keep it for all of its users."""
    if sticky.cookie is None:
        return
    known = matched("cookie", f"(.*;)?[ ]*{_literal(sticky.cookie)}=[^;].*")
    known.invert_match = known.treat_missing_header_as_empty = True
    name = sticky.cookie.replace("%", "%%")
    cookie = f"{name}=%REQ({REQUEST_ID})%; {COOKIE_ATTRIBUTES}"
    given = _Append(
        header=base_pb2.HeaderValue(key="set-cookie", value=cookie),
        append_action=_Append.APPEND_IF_EXISTS_OR_ADD,
    )
    yield Way(
        _hashed(rest, Sticky(header=REQUEST_ID)), (known, matched(REQUEST_ID, HARMLESS)), (given,)
    )


def _hashed(rest: Message, sticky: Sticky) -> Message:
    """The same choice for the same user; whoever says nothing is sent by chance."""
    target = route_components_pb2.RouteAction()
    target.CopyFrom(rest)
    target.weighted_clusters.use_hash_policy.value = True
    if sticky.cookie is not None:
        target.hash_policy.add().cookie.name = sticky.cookie
    else:
        target.hash_policy.add().header.header_name = sticky.header or ""
    return target


def matched(name: str, pattern: str) -> Message:
    """A header of which the whole value fits a pattern."""
    matcher = route_components_pb2.HeaderMatcher(name=name)
    matcher.string_match.safe_regex.regex = pattern
    return matcher


def _literal(text: str) -> str:
    """Text as a pattern for itself, whatever is in it."""
    return "".join(
        char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}" for char in text
    )
