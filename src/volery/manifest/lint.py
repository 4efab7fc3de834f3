"""What parses and still looks wrong: policies that contradict each other, parts without effect yet.

Pure: the application in, findings out, in the order of the manifest. A *warning* is a policy that
will not do what its author expects; a *note* says that a part of the manifest is accepted but not
acted on by this version. Nothing here stops a deploy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel

from volery.manifest.mistake import Path, dotted
from volery.model.application import (
    Application,
    CustomMetric,
    Deploy,
    Gate,
    Need,
    Retry,
    Scale,
    Service,
)
from volery.model.placeholders import strangers
from volery.model.units import format_duration

BUDGET_LARGE = 0.5


@dataclass(frozen=True)
class Finding:
    """One opinion: where, and what about it."""

    severity: Literal["warning", "note"]
    at: Path
    message: str

    @property
    def path(self) -> str:
        """Where, as a person would search for it."""
        return dotted(self.at)


def lint(application: Application) -> tuple[Finding, ...]:
    """Every finding, warnings first."""
    services = application.services
    slowest = _slowest_callers(services)
    warnings = [
        finding
        for name, service in services.items()
        for finding in (
            *_edges(name, service, services),
            *_health(name, service),
            *_stop(name, service, slowest.get(name)),
            *_deploy(name, service),
            *_state(name, service),
        )
    ]
    asked = [
        finding
        for at, service, deploy in _deploys(application)
        for finding in _outside(at, service, deploy)
    ]
    return (*warnings, *asked, *_inactive(application))


def unset_secrets(application: Application, known: Collection[str]) -> Iterator[Finding]:
    """A warning for each secret a service wants that is not among the known ones."""
    for name, service in application.services.items():
        for secret in service.secrets:
            if secret not in known:
                said = f"{secret} is not set here: volery secret set {secret}"
                yield _warning(("services", name, "secrets"), said)


def _warning(path: Path, message: str) -> Finding:
    return Finding("warning", path, message)


Services = Mapping[str, Service]


# --- edges ----------------------------------------------------------------------------------------


def _edges(name: str, service: Service, services: Services) -> Iterator[Finding]:
    for need, policy in service.needs.items():
        at: Path = ("services", name, "needs", need)
        callee = services.get(need)
        if policy.retry is not None and policy.retry.attempts > 1:
            yield from _retry(at, policy, policy.retry)
            if callee is not None and callee.protocol == "tcp":
                said = "tcp connections are not retried; only http, http2 and grpc calls are"
                yield _warning((*at, "retry"), said)
            yield from _layers(at, name, need, services)
        if policy.importance == "degradable" and policy.when_unavailable == "keep_trying":
            said = (
                "keep_trying makes the caller wait for a need it can do without; "
                "use fail_fast, or importance: critical"
            )
            yield _warning((*at, "when_unavailable"), said)
        if callee is not None and policy.timeout is not None:
            yield from _callee_waits(at, need, policy.timeout, callee)


def _retry(at: Path, policy: Need, retry: Retry) -> Iterator[Finding]:
    longest = longest_seconds(retry)
    if policy.timeout is not None and longest is not None and _shorter(policy.timeout, longest):
        said = (
            f"{_time(policy.timeout)} is shorter than {retry.attempts} tries of "
            f"{_time(retry.per_try or 0)} with their waits ({_time(longest)}): "
            "the last tries cannot finish"
        )
        yield _warning((*at, "timeout"), said)
    if retry.per_try is None and set(retry.on) != {"connect"}:
        said = "without per_try one slow try uses up the whole timeout and is never retried"
        yield _warning((*at, "retry"), said)
    if "budget" not in retry.model_fields_set:
        said = f"no budget is written: retries may add {retry.budget * 100:g}% to the calls"
        yield Finding("note", (*at, "retry"), said)
    if retry.budget == 0:
        yield _warning((*at, "retry", "budget"), "with a budget of 0% nothing is ever retried")
    elif retry.budget > BUDGET_LARGE:
        said = (
            f"a budget of {retry.budget * 100:g}% is hardly one: retries may add that much load "
            "while the callee is already in trouble; 20% is usual"
        )
        yield _warning((*at, "retry", "budget"), said)


def longest_seconds(retry: Retry) -> float | None:
    """How long all tries and the waits between them can take; None if a try has no limit."""
    if retry.per_try is None:
        return None
    waits = (
        min(retry.backoff.base * 2.0**number, retry.backoff.cap)
        for number in range(retry.attempts - 1)
    )
    return retry.attempts * retry.per_try + sum(waits)


def _callee_waits(at: Path, need: str, timeout: float, callee: Service) -> Iterator[Finding]:
    for further, edge in callee.needs.items():
        limits = [edge.timeout, longest_seconds(edge.retry) if edge.retry else None]
        known = [limit for limit in limits if limit is not None]
        if known and _shorter(timeout, min(known)):
            said = (
                f"{_time(timeout)} is shorter than {need} may wait for {further} "
                f"({_time(min(known))}): {need} goes on after its caller has given up"
            )
            yield _warning((*at, "timeout"), said)


def _repeats(policy: Need) -> bool:
    """Whether a failed call may have reached the callee and is sent again."""
    return (
        policy.retry is not None
        and policy.retry.attempts > 1
        and set(policy.retry.on) != {"connect"}
    )


def _may_repeat(policy: Need) -> bool:
    """The same, or nobody wrote on which failures: then only `connect` is retried, as yet."""
    retry = policy.retry
    unsaid = retry is not None and retry.attempts > 1 and "on" not in retry.model_fields_set
    return unsaid or _repeats(policy)


def _layers(at: Path, name: str, need: str, services: Services) -> Iterator[Finding]:
    for retries, multiply in ((_repeats, "multiply"), (_may_repeat, "multiply with more `on`")):
        below = _next_retry([name, need], services, retries)
        if below is None or not retries(services[name].needs[need]):
            continue
        outer, inner = services[name].needs[need].retry, services[below[-2]].needs[below[-1]].retry
        assert outer is not None and inner is not None
        calls = outer.attempts * inner.attempts
        said = (
            f"retries at two layers {multiply}: {' -> '.join(below)} can become {calls} "
            "calls for one; keep the retry nearest to the failure"
        )
        yield _warning((*at, "retry"), said)
        return


def _next_retry(
    start: list[str], services: Services, retries: Callable[[Need], bool]
) -> list[str] | None:
    """The shortest call path that goes on from `start` and ends in an edge that retries."""
    paths, seen = [start], set(start)
    while paths:
        path = paths.pop(0)
        here = services.get(path[-1])
        for further, edge in here.needs.items() if here else ():
            if retries(edge):
                return [*path, further]
            if further not in seen:
                seen.add(further)
                paths.append([*path, further])
    return None


# --- one service ----------------------------------------------------------------------------------


def _health(name: str, service: Service) -> Iterator[Finding]:
    at: Path = ("services", name, "health")
    health = service.health
    if _shorter(health.every, health.timeout):
        said = (
            f"{_time(health.timeout)} is longer than every ({_time(health.every)}): "
            "probes of a slow instance overlap or are late"
        )
        yield _warning((*at, "timeout"), said)
    if _shorter(health.startup, health.timeout):
        said = (
            f"{_time(health.startup)} is shorter than one probe may take "
            f"({_time(health.timeout)}): a slow start is never given a chance"
        )
        yield _warning((*at, "startup"), said)
    if service.protocol == "tcp" and any(
        probe is not None and probe.path for probe in (health.ready, health.live)
    ):
        said = "asks for an HTTP path of a service with protocol tcp; use {tcp: true} or a command"
        yield _warning(at, said)


def _slowest_callers(services: Services) -> dict[str, tuple[float, str]]:
    """For each service: how long a call to it may take at most, and who makes that call."""
    slowest: dict[str, tuple[float, str]] = {}
    for caller, service in services.items():
        for need, edge in service.needs.items():
            if edge.timeout is not None and edge.timeout > slowest.get(need, (0.0, ""))[0]:
                slowest[need] = (edge.timeout, caller)
    return slowest


def _stop(name: str, service: Service, slowest: tuple[float, str] | None) -> Iterator[Finding]:
    if slowest is not None and _shorter(service.stop.drain, slowest[0]):
        said = (
            f"{_time(service.stop.drain)} is shorter than {slowest[1]} may wait for an answer "
            f"({_time(slowest[0])}): long requests are cut off when an instance stops"
        )
        yield _warning(("services", name, "stop", "drain"), said)


def _deploy(name: str, service: Service) -> Iterator[Finding]:
    at: Path = ("services", name, "deploy")
    deploy = service.deploy
    if deploy.strategy == "recreate" and service.state is None:
        said = "stops the old instances before new ones serve, so every deploy is an outage"
        one = "; with one instance, too, rolling serves on" if service.scale.max == 1 else ""
        yield _warning((*at, "strategy"), said + (one or "; rolling serves on"))
    if deploy.strategy == "rolling" and deploy.unavailable >= max(service.scale.min, 1):
        said = (
            f"{deploy.unavailable} of {service.scale.min} instances may be away at once: "
            "nothing may serve during a deploy"
        )
        yield _warning((*at, "unavailable"), said)


def _state(name: str, service: Service) -> Iterator[Finding]:
    state, most = service.state, service.scale.max
    if state is not None and state.role is None and most > 1:
        said = (
            f"{most} instances write a volume each, and without `role` nothing tells which of them "
            "is the primary; use scale: 1, or say role"
        )
        yield _warning(("services", name, "state"), said)


# --- what is asked outside ------------------------------------------------------------------------


def _deploys(application: Application) -> Iterator[tuple[Path, Service, Deploy]]:
    """Each `deploy` of the manifest, those of overrides too, and where it stands."""
    for name, service in application.services.items():
        yield ("services", name, "deploy"), service, service.deploy
    for environment, settings in application.environments.items():
        for name, override in settings.overrides.items():
            if override.deploy is not None and name in application.services:
                at: Path = ("environments", environment, "overrides", name, "deploy")
                yield at, application.services[name], override.deploy


def _outside(at: Path, service: Service, deploy: Deploy) -> Iterator[Finding]:
    for index, gate in enumerate(deploy.gates):
        yield from _gate((*at, "gates", index), service, gate)
    for name, metric in deploy.metrics.items():
        yield from _metric((*at, "metrics", name), deploy, metric)
    if deploy.metrics and deploy.strategy in ("rolling", "recreate"):
        said = f"nothing is judged in a {deploy.strategy} deploy; use canary or blue-green"
        yield _warning((*at, "metrics"), said)
    if deploy.synthetic and deploy.strategy != "canary":
        yield _warning((*at, "synthetic"), "only a canary makes requests of its own")
    elif deploy.synthetic and service.protocol in ("tcp", "grpc"):
        said = f"are HTTP requests; a service with protocol {service.protocol} fails them all"
        yield _warning((*at, "synthetic"), said)
    for index, synthetic in enumerate(deploy.synthetic):
        if synthetic.body and synthetic.method != "POST":
            said = f"a {synthetic.method} with a body is refused by many servers; use POST"
            yield _warning((*at, "synthetic", index, "body"), said)


def _gate(at: Path, service: Service, gate: Gate) -> Iterator[Finding]:
    url = gate.url or ""
    if url.startswith("/") and service.protocol == "tcp":
        said = "asks for an HTTP path of a service with protocol tcp; use a command"
        yield _warning((*at, "url"), said)
    yield from _password((*at, "url"), url)


def _metric(at: Path, deploy: Deploy, metric: CustomMetric) -> Iterator[Finding]:
    if _shorter(metric.every, metric.timeout):
        said = (
            f"{_time(metric.timeout)} is longer than every ({_time(metric.every)}): "
            "measurements of a slow source are late"
        )
        yield _warning((*at, "timeout"), said)
    if deploy.strategy == "canary" and _shorter(deploy.at_most, metric.every * metric.failures):
        said = (
            f"{metric.failures} measurements every {_time(metric.every)} take longer than a step "
            f"(at_most: {_time(deploy.at_most)}): it can never take a release back"
        )
        yield _warning((*at, "failures"), said)
    if metric.query is not None:
        yield from _query((*at, "query"), metric)
    yield from _password((*at, "prometheus"), metric.prometheus or "")


def _query(at: Path, metric: CustomMetric) -> Iterator[Finding]:
    for word in strangers(metric.query or ""):
        said = (
            f"{{{word}}} is not filled in, and in PromQL it means nothing; "
            "known: {service}, {release}, {track}"
        )
        yield _warning(at, said)
    if not metric.by_group:
        said = (
            "names neither {release} nor {track}, so the new release is blamed for what the old "
            "one does as well"
        )
        yield _warning(at, said)


def _password(at: Path, url: str) -> Iterator[Finding]:
    if ":" in urlsplit(url).netloc.rpartition("@")[0]:
        said = "has a password that everyone sees who reads the manifest; a command can keep it"
        yield _warning(at, said)


def _shorter(seconds: float, others: float) -> bool:
    """By more than sums of binary fractions are off."""
    return seconds < others - 1e-6


def _time(seconds: float) -> str:
    return format_duration(seconds)


# --- what is accepted but not acted on ------------------------------------------------------------


@dataclass(frozen=True)
class Inactive:
    """A place of the manifest that has no effect yet if a value there is `when`."""

    place: str
    says: str
    when: Callable[[Any], bool] = lambda value: value is not None


def _is(*values: object) -> Callable[[Any], bool]:
    return lambda value: value in values


def _autoscales(scale: Scale | None) -> bool:
    return scale is not None and (scale.max > scale.min or scale.target is not None)


INACTIVE = (
    Inactive("*.scale", "autoscaling; `min` instances run until then", _autoscales),
    Inactive("*.steady_state", "alerting by this promise; deploys are judged by it"),
    Inactive("*.needs.*.when_unavailable", "keep_trying; calls fail fast", _is("keep_trying")),
    Inactive(
        "*.needs.*.importance",
        "importance beyond the order of starting",
        _is("critical", "degradable"),
    ),
    Inactive("*.state.role", "roles; all instances are treated alike"),
    Inactive("*.state.switchover", "switching the primary over before it is stopped"),
    Inactive(
        "environments.*.engine",
        "this engine; use an environment with `engine: local`",
        _is("docker", "kubernetes"),
    ),
)
"""Shrinks with every version. A leading `*` stands for a service and for an override of one."""


def _inactive(application: Application) -> Iterator[Finding]:
    for row in INACTIVE:
        for pattern in _spelled_out(row.place):
            for path, value in _written(application, pattern):
                if row.when(value):
                    yield Finding("note", path, f"not active yet: {row.says}")


def _spelled_out(place: str) -> list[list[str]]:
    if not place.startswith("*."):
        return [place.split(".")]
    below = place.split(".")[1:]
    return [["services", "*", *below], ["environments", "*", "overrides", "*", *below]]


def _written(value: Any, pattern: list[str], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The values the manifest itself gives at places of a pattern, defaults left out."""
    if not pattern:
        yield path, value
        return
    step, rest = pattern[0], pattern[1:]
    if step == "*" and isinstance(value, dict):
        for key, below in value.items():
            yield from _written(below, rest, (*path, key))
    elif isinstance(value, BaseModel) and step in value.model_fields_set:
        yield from _written(getattr(value, step), rest, (*path, step))
