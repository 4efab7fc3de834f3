"""What parses and still looks wrong: policies that contradict each other, parts without effect yet.

Pure: the application in, findings out, in the order of the manifest. A *warning* is a policy that
will not do what its author expects; a *note* says that a part of the manifest is accepted but not
acted on by this version. Nothing here stops a deploy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from volery.manifest.finding import Finding, shorter, time_text, warning
from volery.manifest.lint_edges import edges
from volery.manifest.mistake import Path
from volery.model.application import Application, Scale, Service
from volery.model.deploy import NOT_COPIED, STAGED, CustomMetric, Deploy, Gate
from volery.model.placeholders import strangers


def lint(application: Application) -> tuple[Finding, ...]:
    """Every finding, warnings first."""
    services = application.services
    slowest = _slowest_callers(services)
    warnings = [
        finding
        for name, service in services.items()
        for finding in (
            *edges(name, service, services),
            *_health(name, service),
            *_stop(name, service, slowest.get(name)),
            *_deploy(name, service),
            *_state(name, service),
            *_floor(name, service),
            *_shown_secrets(name, service),
        )
    ]
    asked = [
        finding
        for at, service, deploy in _deploys(application)
        for finding in (*_options(at, service, deploy), *_outside(at, service, deploy))
    ]
    return (*warnings, *asked, *_inactive(application))


def unset_secrets(application: Application, known: Collection[str]) -> Iterator[Finding]:
    """A warning for each secret a service wants that is not among the known ones."""
    for name, service in application.services.items():
        for secret in service.secrets:
            if secret not in known:
                said = f"{secret} is not set here: volery secret set {secret}"
                yield warning(("services", name, "secrets"), said)


Services = Mapping[str, Service]
ONLY_IN: Mapping[str, Sequence[str]] = {
    "steps": ("canary",),
    "at_most": STAGED,
    "on_inconclusive": STAGED,
    "approve": STAGED,
    "baseline": ("canary",),
    "ramp": ("canary",),
    "sticky": ("canary",),
    "override": ("canary",),
    "mirror": ("canary",),
    "mirror_methods": ("canary",),
    "watch": ("blue-green",),
    "surge": (*STAGED, "rolling"),
    "unavailable": ("rolling",),
    "warm": STAGED,
}
"""Options of a deploy that only some strategies know."""
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
"""As `supervise.shim.child` has them and the variables, which can import nothing of ours."""
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


# --- one service ----------------------------------------------------------------------------------


def _health(name: str, service: Service) -> Iterator[Finding]:
    at: Path = ("services", name, "health")
    health = service.health
    if shorter(health.every, health.timeout):
        said = (
            f"{time_text(health.timeout)} is longer than every ({time_text(health.every)}): "
            "a slow instance is asked less often than that"
        )
        yield warning((*at, "timeout"), said)
    if shorter(health.startup, health.timeout):
        said = (
            f"{time_text(health.startup)} is shorter than one probe may take "
            f"({time_text(health.timeout)}): a slow start is never given a chance"
        )
        yield warning((*at, "startup"), said)
    if service.protocol == "tcp" and any(
        probe is not None and probe.path for probe in (health.ready, health.live)
    ):
        said = "asks for an HTTP path of a service with protocol tcp; use {tcp: true} or a command"
        yield warning(at, said)


def _slowest_callers(services: Services) -> dict[str, tuple[float, str]]:
    """For each service: how long a call to it may take at most, and who makes that call."""
    slowest: dict[str, tuple[float, str]] = {}
    for caller, service in services.items():
        for need, edge in service.needs.items():
            if need in services and services[need].protocol == "tcp":
                continue  # there it limits how long a connection is waited for
            if edge.timeout is not None and edge.timeout > slowest.get(need, (0.0, ""))[0]:
                slowest[need] = (edge.timeout, caller)
    return slowest


def _stop(name: str, service: Service, slowest: tuple[float, str] | None) -> Iterator[Finding]:
    if slowest is not None and shorter(service.stop.drain, slowest[0]):
        said = (
            f"{time_text(service.stop.drain)} is shorter than {slowest[1]} may wait for an answer "
            f"({time_text(slowest[0])}): long requests are cut off when an instance stops"
        )
        yield warning(("services", name, "stop", "drain"), said)


def _deploy(name: str, service: Service) -> Iterator[Finding]:
    at: Path = ("services", name, "deploy")
    deploy = service.deploy
    if deploy.strategy == "recreate" and service.state is None:
        said = "stops the old instances before new ones serve, so every deploy is an outage"
        one = "; with one instance, too, rolling serves on" if service.scale.max == 1 else ""
        yield warning((*at, "strategy"), said + (one or "; rolling serves on"))
    gap = deploy.strategy == "rolling" and deploy.unavailable >= max(service.scale.min, 1)
    if gap and not _has_floor(service):
        said = (
            f"{deploy.unavailable} of {service.scale.min} instances may be away at once: "
            "nothing may serve during a deploy"
        )
        yield warning((*at, "unavailable"), said)


def _has_floor(service: Service) -> bool:
    """Whether one instance at least stays ready, whatever `unavailable` says."""
    wished = 1 if service.floor is None else service.floor
    adds_first = service.deploy.surge > 0 and service.state is None
    return wished > 0 and (adds_first or service.scale.min > 1)


def _state(name: str, service: Service) -> Iterator[Finding]:
    state, most = service.state, service.scale.max
    if state is not None and state.role is None and most > 1:
        said = (
            f"{most} instances write a volume each, and without `role` nothing tells which of them "
            "is the primary; use scale: 1, or say role"
        )
        yield warning(("services", name, "state"), said)
    if state is not None and state.role is not None and state.switchover is None and most > 1:
        said = "without `switchover` no replica can take over when the primary is gone"
        yield warning(("services", name, "state"), said)
    if state is not None and state.role is None:
        for key in ("switchover", "demote", "backup"):
            if getattr(state, key) is not None:
                said = "has no effect without `role`, which tells who is the primary"
                yield warning(("services", name, "state", key), said)


def _shown_secrets(name: str, service: Service) -> Iterator[Finding]:
    """Secrets that we would write into a command line. What the script of a shell does with them is
    not for us to know."""
    for at, command in _told_secrets(service):
        if any(word.rpartition("/")[2] in SHELLS for word in command):
            continue
        named = [match[1] or match[2] for word in command for match in VARIABLE.finditer(word)]
        for secret in [secret for secret in service.secrets if secret in named]:
            said = (
                f"${secret} is a secret, and others can see it on a command line; let the program "
                "read it from its environment"
            )
            yield warning(("services", name, *at), said)


def _told_secrets(service: Service) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Each command that has the secrets in its environment, and where it stands."""
    yield ("run",), service.run
    for key, probe in (("ready", service.health.ready), ("live", service.health.live)):
        if probe is not None and probe.command:
            yield ("health", key, "command"), probe.command
    for key in ("role", "switchover", "demote", "backup") if service.state else ():
        command = getattr(service.state, key)
        if command:
            yield ("state", key), command


def _floor(name: str, service: Service) -> Iterator[Finding]:
    """A floor at which nothing could be replaced is one lower than it says; see decide.capacity."""
    least, wished = service.scale.min, service.floor
    if wished is None:
        return
    at: Path = ("services", name, "floor")
    if wished > least:
        yield warning(at, f"{wished} is more than the {least} there may be: it counts as {least}")
    elif wished == least > 1 and (service.state or service.deploy.surge == 0):
        said = f"nothing could ever be replaced with all {least} ready: it counts as {least - 1}"
        yield warning(at, said)


# --- what is asked outside ------------------------------------------------------------------------


def _deploys(application: Application) -> Iterator[tuple[Path, Service, Deploy]]:
    """Each `deploy` of the manifest and where it stands; of an override only what that says, under
    the strategy that counts there."""
    for name, service in application.services.items():
        yield ("services", name, "deploy"), service, service.deploy
    for environment, settings in application.environments.items():
        for name, override in settings.overrides.items():
            if override.deploy is not None and name in application.services:
                at: Path = ("environments", environment, "overrides", name, "deploy")
                service = override.applied(application.services[name])
                strategy = {"strategy": service.deploy.strategy}
                yield at, service, override.deploy.model_copy(update=strategy)


def _options(at: Path, service: Service, deploy: Deploy) -> Iterator[Finding]:
    """What is written of a deploy and has no effect under its strategy."""
    for name, strategies in ONLY_IN.items():
        written = getattr(deploy, name) != Deploy.model_fields[name].default
        if written and deploy.strategy not in strategies:
            said = f"has no effect in a {deploy.strategy} deploy, only in {_either(strategies)}"
            yield warning((*at, name), said)
    if deploy.strategy == "canary":
        yield from _unreachable(at, service.protocol, deploy)


def _unreachable(at: Path, protocol: str, deploy: Deploy) -> Iterator[Finding]:
    """Ways to a canary that its protocol does not know."""
    if deploy.mirror and protocol in NOT_COPIED:
        calls = "calls" if protocol == "grpc" else "connections"
        yield warning((*at, "mirror"), f"has no effect: {protocol} {calls} are not copied")
    for name in ("sticky", "override"):
        if getattr(deploy, name) is not None and protocol == "tcp":
            said = "has no effect: tcp connections go by weight alone"
            yield warning((*at, name), said)


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _outside(at: Path, service: Service, deploy: Deploy) -> Iterator[Finding]:
    for index, gate in enumerate(deploy.gates):
        yield from _gate((*at, "gates", index), service, deploy, gate)
    for name, metric in deploy.metrics.items():
        yield from _metric((*at, "metrics", name), deploy, metric)
    if deploy.metrics and deploy.strategy in ("rolling", "recreate"):
        said = f"are not measured in a {deploy.strategy} deploy; use canary or blue-green"
        yield warning((*at, "metrics"), said)
    if deploy.synthetic and deploy.strategy != "canary":
        yield warning((*at, "synthetic"), "only a canary makes requests of its own")
    elif deploy.synthetic and service.protocol in NOT_COPIED:
        said = f"are HTTP requests; a service with protocol {service.protocol} fails them all"
        yield warning((*at, "synthetic"), said)
    for index, synthetic in enumerate(deploy.synthetic):
        if synthetic.body and synthetic.method != "POST":
            said = f"a {synthetic.method} with a body is refused by many servers; use POST"
            yield warning((*at, "synthetic", index, "body"), said)


def _gate(at: Path, service: Service, deploy: Deploy, gate: Gate) -> Iterator[Finding]:
    url = gate.url or ""
    if gate.when != "before_start" and deploy.strategy in ("rolling", "recreate"):
        said = (
            f"never asked in a {deploy.strategy} deploy, which has no steps; "
            "use canary or blue-green, or when: before_start"
        )
        yield warning((*at, "when"), said)
    if url.startswith("/") and service.protocol == "tcp":
        said = "asks for an HTTP path of a service with protocol tcp; use a command"
        yield warning((*at, "url"), said)
    yield from _password((*at, "url"), url)


def _metric(at: Path, deploy: Deploy, metric: CustomMetric) -> Iterator[Finding]:
    if shorter(metric.every, metric.timeout):
        said = (
            f"{time_text(metric.timeout)} is longer than every ({time_text(metric.every)}): "
            "measurements of a slow source are late"
        )
        yield warning((*at, "timeout"), said)
    if deploy.strategy == "canary" and shorter(deploy.at_most, metric.every * metric.failures):
        said = (
            f"{metric.failures} measurements every {time_text(metric.every)} take longer than a "
            f"step (at_most: {time_text(deploy.at_most)}): it can never take a release back"
        )
        yield warning((*at, "failures"), said)
    if deploy.strategy == "blue-green" and shorter(deploy.watch, metric.every * metric.failures):
        said = (
            f"{metric.failures} measurements every {time_text(metric.every)} take longer than a "
            f"switch is watched (watch: {time_text(deploy.watch)}): what they show late takes "
            "nothing back"
        )
        yield warning((*at, "failures"), said)
    if metric.query is not None:
        yield from _query((*at, "query"), metric)
    yield from _password((*at, "prometheus"), metric.prometheus or "")


def _query(at: Path, metric: CustomMetric) -> Iterator[Finding]:
    for word in strangers(metric.query or ""):
        said = (
            f"{{{word}}} is not filled in, and in PromQL it means nothing; "
            "known: {service}, {release}, {track}"
        )
        yield warning(at, said)
    if not metric.by_group:
        said = (
            "names neither {release} nor {track}, so the new release is blamed for what the old "
            "one does as well"
        )
        yield warning(at, said)


def _password(at: Path, url: str) -> Iterator[Finding]:
    if ":" in urlsplit(url).netloc.rpartition("@")[0]:
        said = "has a password that everyone sees who reads the manifest; a command can keep it"
        yield warning(at, said)


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
