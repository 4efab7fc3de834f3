"""Policies of edges that contradict each other or those of other edges, across the whole graph.

Pure. A retry *multiplies* when a layer further out sends again what a layer below has already sent
again: that takes statuses or time limits in its `on`, as the failure of a layer below arrives as
nothing else; or no `timeout`, as a try that is late is then repeated before the layer below has
given up. Cut connections and connections that never came about do not multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import prod

from volery.manifest.finding import Finding, shorter, time_text, warning
from volery.manifest.mistake import Path
from volery.model.application import Service
from volery.model.needs import BUDGET, KEEP_TRYING_SECONDS, Need, Retry, longest_seconds

BUDGET_LARGE = 0.5
OWN_HOP = frozenset({"connect", "reset"})
"""Failures between a caller and its need, which no layer further out sees as such."""
ANSWERS = frozenset({"5xx", "gateway-error"})

Services = Mapping[str, Service]
Fits = Callable[[Need, Service | None], bool]
DEFAULT = Retry()


def edges(name: str, service: Service, services: Services) -> Iterator[Finding]:
    """What is wrong with the edges of a service."""
    for need, policy in service.needs.items():
        at: Path = ("services", name, "needs", need)
        callee = services.get(need)
        if policy.retry is not None and policy.retry.attempts > 1:
            yield from _retry(at, policy, policy.retry)
            yield from _protocol(at, policy, policy.retry, callee)
            yield from _layers(at, name, need, services)
        yield from _late_twice(at, name, need, services)
        yield from _one_try(at, policy, callee)
        yield from _circle(at, name, need, services)
        if policy.when_unavailable == "keep_trying":
            yield from _keeps_trying(at, name, need, services)
        if callee is not None and callee.protocol == "tcp":
            yield from _connection(at, policy)
        elif callee is not None and policy.timeout is not None:
            yield from _callee_waits(at, policy.timeout, need, services)


def _retry(at: Path, policy: Need, retry: Retry) -> Iterator[Finding]:
    longest = longest_seconds(retry)
    if policy.timeout is not None and longest is not None and shorter(policy.timeout, longest):
        said = (
            f"{time_text(policy.timeout)} is shorter than {retry.attempts} tries of "
            f"{time_text(retry.per_try or 0)} with their waits ({time_text(longest)}): "
            "the last tries cannot finish"
        )
        yield warning((*at, "timeout"), said)
    if retry.per_try is None and set(retry.on) & ANSWERS and "timeout" not in retry.on:
        said = "without per_try one slow try uses up the whole timeout and is never retried"
        yield warning((*at, "retry"), said)
    if policy.timeout is None and set(retry.on) & ANSWERS:
        said = "without a timeout an answer with a long Retry-After is waited for as long"
        yield Finding("note", (*at, "retry"), said)
    yield from _budget(at, retry)


def _one_try(at: Path, policy: Need, callee: Service | None) -> Iterator[Finding]:
    """What the owner cannot do without, and gives up after the first cut connection."""
    retry = policy.retry
    given_up = retry is not None and retry.attempts == 1 and policy.when_unavailable == "fail_fast"
    if given_up and policy.importance == "critical" and callee and callee.protocol != "tcp":
        said = (
            "with fail_fast and 1 attempt one cut connection fails a need that is critical; "
            "leave attempts out (3), or keep_trying"
        )
        yield warning((*at, "retry", "attempts"), said)


def _budget(at: Path, retry: Retry) -> Iterator[Finding]:
    if "budget" not in retry.model_fields_set:
        said = f"no budget is written: retries may add {retry.budget * 100:g}% to the calls"
        yield Finding("note", (*at, "retry"), said)
    if retry.budget == 0:
        said = "with a budget of 0% only what never reached the callee is retried"
        yield warning((*at, "retry", "budget"), said)
    elif retry.budget < BUDGET:
        said = (
            f"a budget of {retry.budget * 100:g}% limits nothing: a service has one for all its "
            f"callers, never less than {BUDGET * 100:g}%"
        )
        yield warning((*at, "retry", "budget"), said)
    elif retry.budget > BUDGET_LARGE:
        said = (
            f"a budget of {retry.budget * 100:g}% is hardly one: retries may add that much load "
            "while the callee is already in trouble; 20% is usual"
        )
        yield warning((*at, "retry", "budget"), said)


def _protocol(at: Path, policy: Need, retry: Retry, callee: Service | None) -> Iterator[Finding]:
    if callee is None:
        return
    if callee.protocol == "tcp":
        said = "tcp connections are not retried; only http, http2 and grpc calls are"
        yield warning((*at, "retry"), said)
    elif callee.protocol == "grpc" and retry.methods != "all" and "on" in retry.model_fields_set:
        said = "grpc calls are all POST, so only connections are retried; say methods: all"
        yield warning((*at, "retry", "on"), said)
    elif callee.protocol == "grpc" and policy.timeout is not None and not retry.per_try:
        said = "a timeout limits each try of a grpc call; only its own deadline limits them all"
        yield Finding("note", (*at, "timeout"), said)
    elif callee.protocol != "grpc" and retry.methods == "all" and set(retry.on) & ANSWERS:
        said = (
            "methods: all with answers in `on` does a POST again that may have been done; "
            "use idempotent, or be sure that the callee does nothing twice"
        )
        yield warning((*at, "retry", "methods"), said)


def _connection(at: Path, policy: Need) -> Iterator[Finding]:
    if policy.timeout is not None and policy.when_unavailable == "fail_fast":
        said = (
            "has no effect: a tcp connection lasts as long as both ends want; "
            "only keep_trying waits that long for one"
        )
        yield warning((*at, "timeout"), said)


def _keeps_trying(at: Path, name: str, need: str, services: Services) -> Iterator[Finding]:
    policy = services[name].needs[need]
    if policy.importance == "degradable":
        said = (
            "keep_trying makes the caller wait for a need it can do without; "
            "use fail_fast, or importance: critical"
        )
        yield warning((*at, "when_unavailable"), said)
    if policy.timeout is None:
        said = f"without a timeout calls wait up to {time_text(KEEP_TRYING_SECONDS)}; say how long"
        yield warning((*at, "when_unavailable"), said)
    below = _next([name, need], services, lambda edge, _: edge.when_unavailable == "keep_trying")
    if below is not None:
        said = (
            f"calls wait at two layers: {' -> '.join(below)}; those who wait further out hold "
            "requests open for nothing, keep_trying belongs next to what may be away"
        )
        yield warning((*at, "when_unavailable"), said)
    back = _next([name, need], services, lambda *_: True, to=name)
    if back is not None:
        said = f"{' -> '.join(back)} is a circle in which calls wait for themselves; use fail_fast"
        yield warning((*at, "when_unavailable"), said)


def _callee_waits(at: Path, timeout: float, need: str, services: Services) -> Iterator[Finding]:
    """Who waits longer below than `timeout`; an edge of which nobody wrote how long is passed."""
    paths, seen = [[need]], {need}
    while paths:
        path = paths.pop(0)
        for further, edge in services[path[-1]].needs.items():
            limit = _limit(edge, services.get(further))
            if limit is not None and shorter(timeout, limit):
                yield warning((*at, "timeout"), _outlasts(timeout, [*path, further], limit))
            elif limit is None and further in services and further not in seen:
                seen.add(further)
                paths.append([*path, further])


def _outlasts(timeout: float, path: list[str], limit: float) -> str:
    *through, waits, further = path
    where = f", in {' -> '.join(path)}" if through else ""
    return (
        f"{time_text(timeout)} is shorter than {waits} may wait for {further} "
        f"({time_text(limit)}{where}): {waits} goes on after its caller has given up"
    )


def _limit(edge: Need, callee: Service | None) -> float | None:
    """After how long at most a call of this edge is over; None if nobody wrote that."""
    if edge.when_unavailable == "keep_trying":
        return edge.timeout or KEEP_TRYING_SECONDS
    if callee is not None and callee.protocol == "tcp":
        return None  # a connection lasts as long as both ends want, whatever is written
    tries = longest_seconds(edge.retry) if edge.retry else None
    return min((limit for limit in (edge.timeout, tries) if limit is not None), default=None)


def _repeats(policy: Need, callee: Service | None) -> bool:
    """Whether a failed call is sent again for more than its connection."""
    retry, protocol = policy.retry or DEFAULT, callee.protocol if callee else "http"
    if protocol == "tcp" or (protocol == "grpc" and retry.methods != "all"):
        return False
    return retry.attempts > 1 and retry.budget > 0 and bool(set(retry.on) - {"connect"})


def _repeats_as_written(policy: Need, callee: Service | None) -> bool:
    return policy.retry is not None and _repeats(policy, callee)


def _repeats_answers(policy: Need, callee: Service | None) -> bool:
    return _repeats(policy, callee) and bool(set((policy.retry or DEFAULT).on) - OWN_HOP)


def _repeats_late(policy: Need, callee: Service | None) -> bool:
    """Without a timeout a try that does not begin to answer is sent again, whatever `on` says. A
    grpc call may take as long as its own deadline."""
    grpc = callee is not None and callee.protocol == "grpc"
    return policy.timeout is None and not grpc and _repeats(policy, callee)


def _layers(at: Path, name: str, need: str, services: Services) -> Iterator[Finding]:
    chain, calls = _chain([name, need], services)
    if len(chain) > 2:
        said = (
            f"retries at several layers multiply: {' -> '.join(chain)} may ask {chain[-1]} "
            f"{calls} times for one request; keep the retry nearest to the failure"
        )
        yield warning((*at, "retry"), said)
        return
    policy, callee = services[name].needs[need], services.get(need)
    below = _next(chain, services, _repeats_as_written)
    if below and not _repeats_answers(policy, callee) and not _repeats_late(policy, callee):
        said = (
            f"retries at two layers, {' -> '.join(below)}, do not multiply: only cut connections "
            "are tried again here; with answers or timeouts in `on` they would"
        )
        yield Finding("note", (*at, "retry"), said)


def _chain(chain: list[str], services: Services) -> tuple[list[str], int]:
    """The calls that go on from an edge for as long as retries multiply, and their product."""
    calls = 1
    while True:
        edge = services[chain[-2]].needs[chain[-1]]
        calls *= (edge.retry or DEFAULT).attempts
        below = None
        if _repeats_answers(edge, services.get(chain[-1])):
            below = _next(chain, services, _repeats_as_written) or _next(chain, services, _repeats)
        if below is None or below[-1] in chain:
            return chain, calls
        chain = below


def _late_twice(at: Path, name: str, need: str, services: Services) -> Iterator[Finding]:
    """Two layers without a timeout, told where they begin."""

    def late(caller: str, further: str) -> bool:
        return _repeats_late(services[caller].needs[further], services.get(further))

    callers = (caller for caller in services if name in services[caller].needs)
    if not late(name, need) or any(late(caller, name) for caller in callers):
        return
    below = services[need].needs if need in services else ()
    further = next((each for each in below if late(need, each)), None)
    if further is not None:
        tries = [services[a].needs[b].retry or DEFAULT for a, b in ((name, need), (need, further))]
        said = (
            f"without a timeout late tries are repeated, here and a layer below: {name} -> {need} "
            f"-> {further} may ask a {further} that hangs "
            f"{prod(retry.attempts for retry in tries)} times for one request; say how long"
        )
        yield Finding("note", at, said)


def _circle(at: Path, name: str, need: str, services: Services) -> Iterator[Finding]:
    """A circle of needs, told once: at that of its services which the manifest has first."""
    circle = _next([name, need], services, lambda *_: True, to=name)
    if circle is None or name != next(each for each in services if each in circle):
        return
    steps = (services[one].needs[other] for one, other in pairwise(circle))
    if any(step.when_unavailable == "keep_trying" for step in steps):
        return  # a circle of those who wait is worse, and told where they wait
    said = (
        f"{' -> '.join(circle)} is a circle: what one of them cannot do comes back to itself, and "
        "none can be well first; let one do without the call"
    )
    yield warning(at, said)


def _next(
    start: list[str], services: Services, fits: Fits, to: str | None = None
) -> list[str] | None:
    """The shortest call path that goes on from `start` and ends in an edge that fits (to one)."""
    paths, seen = [start], set(start)
    while paths:
        path = paths.pop(0)
        here = services.get(path[-1])
        for further, edge in here.needs.items() if here else ():
            if fits(edge, services.get(further)) and to in (None, further):
                return [*path, further]
            if further not in seen:
                seen.add(further)
                paths.append([*path, further])
    return None
