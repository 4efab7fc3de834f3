"""What a team writes: the one typed model of the manifest, normalised.

Short forms (`scale: 2`, `needs: [a, b]`, `build: make`) are accepted where the contract allows them
and come out as the long form, so the rest of Volery sees one shape. All values are plain: seconds,
bytes, fractions. The JSON Schema of `volery schema` is generated from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from volery.model.accounts import Account
from volery.model.budget import Guard, Trash
from volery.model.deploy import Deploy
from volery.model.fields import (
    Address,
    Command,
    Commands,
    Duration,
    EnvName,
    EnvValue,
    ErrorLimit,
    Flag,
    HostName,
    LatencyLimit,
    Line,
    LongDuration,
    Name,
    Number,
    ProbePath,
    Short,
    Size,
    TimeLimit,
    UrlPath,
    Whole,
    at_most,
)
from volery.model.form import Model
from volery.model.needs import Needs


class Route(Model):
    """Requests whose path starts with `path` (and whose host is `host`) go to `service`."""

    path: UrlPath = "/"
    """Path prefix on whole segments; the longest one wins."""
    service: Name
    """Which service answers."""
    host: HostName | None = None
    """Only for this host name, or for all below one: `*.example.com`. Between equal paths the more
    exact host wins."""
    strip: UrlPath | None = None
    """A prefix of `path` that the service does not see."""


class Gateway(Model):
    """Where users' requests come in."""

    port: Annotated[Whole, Field(ge=1, le=65535)] = 8080
    """Where users come in."""
    host: Address = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens it to the network."""
    routes: tuple[Route, ...] = ()
    """Which requests go to which service."""


class Probe(Model):
    """One check of an instance: an HTTP path, a TCP connection, or a command that exits 0."""

    path: ProbePath | None = None
    """Passes if a GET of this path succeeds."""
    tcp: Literal[True] | None = None
    """Passes if a connection is accepted."""
    command: Command | None = None
    """Passes if it exits 0."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if not isinstance(value, str | dict | cls):
            raise ValueError("must be a path such as /healthz, {tcp: true} or {command: ...}")
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Probe:
        if sum(kind is not None for kind in (self.path, self.tcp, self.command)) != 1:
            raise ValueError("must have exactly one of path, tcp, command")
        return self


ProbeForm = Annotated[Probe, Short({"type": "string", "pattern": "^/", "examples": ["/healthz"]})]


class Health(Model):
    """How Volery knows that an instance may serve (`ready`) and that it still lives (`live`)."""

    ready: ProbeForm | None = None
    """May it get requests?"""
    live: ProbeForm | None = None
    """Does it still work? If not, the instance is replaced."""
    every: LongDuration = 1.0
    """Time between two checks."""
    timeout: LongDuration = 1.0
    """How long one check may take."""
    failures: Annotated[Whole, Field(ge=1, le=100)] = 3
    """In a row, before an instance is replaced."""
    startup: LongDuration = 30.0
    """How long a new instance may take to become ready."""
    unready: LongDuration = 60.0
    """How long one that was ready may be unready before it is replaced."""


class ScaleTarget(Model):
    """What the autoscaler aims at."""

    concurrency: Annotated[Number, Field(gt=0)]
    """Requests in flight per instance."""


class Scale(Model):
    """How many instances."""

    min: Annotated[Whole, Field(ge=0, le=1000)] = 1
    """Never fewer."""
    max: Annotated[Whole, Field(ge=1, le=1000)] = 1
    """Never more; as many as `min` if not said."""
    target: ScaleTarget | None = None
    """What decides between the two."""

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if isinstance(value, dict):
            least = value.get("min")
            return {"max": least} | value if isinstance(least, int) and least > 1 else value
        if isinstance(value, cls):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a number of instances or {min, max, target}")
        if value < 1:
            raise ValueError(f"must be at least 1, got {value}")
        return {"min": value, "max": value}

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.max < self.min:
            raise ValueError(f"max must be at least min, got {self.min} and {self.max}")
        return self


ScaleForm = Annotated[
    Scale,
    Short(
        {"type": "integer", "minimum": 1},
        description="A number of instances, or {min, max, target}",
    ),
]


class Resources(Model):
    """Limits of one instance."""

    cpu: Annotated[Number, Field(gt=0, le=1024)] | None = None
    """Cores."""
    memory: Size | None = None
    """Bytes, e.g. 256Mi."""
    pids: Annotated[Whole, Field(ge=1), at_most(2**22, "4194304")] | None = None
    """Processes and threads."""
    files: Annotated[Whole, Field(ge=16), at_most(2**30, "1073741824")] | None = None
    """Open files."""


class SteadyState(Model):
    """The promise a service is held to."""

    errors: ErrorLimit | None = None
    """Share of failed requests."""
    latency: dict[Literal["p50", "p90", "p95", "p99", "p999"], LatencyLimit] = {}
    """By percentile (p50, p90, p95, p99, p999), each a condition such as `< 300ms`."""


class Stop(Model):
    """Stop sending requests -> drain what is in flight -> SIGTERM -> grace -> SIGKILL."""

    drain: Duration = 15.0
    """How long requests in flight may take to finish."""
    grace: Duration = 10.0
    """Time between SIGTERM and SIGKILL."""


class State(Model):
    """A stateful service: stable identity and a volume that survives."""

    volume: Name
    """Name of the folder that survives: $VOLERY_VOLUME."""
    role: Command | None = None
    """Prints what the process is (primary, replica or syncing) and how far its data is; asked like
    a health check. Volery chooses the primary: who says primary out of turn is killed."""
    switchover: Command | None = None
    """Makes this replica the primary."""
    demote: Command | None = None
    """Runs on a healthy primary before it is stopped: no new writes, a checkpoint."""
    backup: Command | None = None
    """Runs on the primary before risky steps, which its failure stops."""
    failover: LongDuration = 2.0
    """How long the primary may be gone before a replica takes its place."""


class Service(Model):
    """One independently deployable process type."""

    team: Line | None = None
    """Owner, for `status --output json`; nobody is told anything yet."""
    source: str = "."
    """Folder of the source, relative to the file that says so."""
    build: Commands = ()
    """Runs in a clean copy of the source."""
    test: Commands = ()
    """Runs after build, in a copy of what was built; a failure stops the release there."""
    run: Command
    """Starts one instance; listens on $PORT and exits on SIGTERM."""
    protocol: Literal["http", "http2", "grpc", "tcp"] = "http"
    """What it speaks; websockets work on http."""
    env: dict[EnvName, EnvValue] = {}
    """Environment variables."""
    secrets: tuple[EnvName, ...] = ()
    """Names of variables whose values come from `volery secret set`."""
    needs: Needs = {}
    """Edges to other services: a list of names, or a mapping of names to policies."""
    health: Health = Health()
    """How Volery knows that it is well."""
    scale: ScaleForm = Scale()
    """A number of instances, or {min, max, target}."""
    resources: Resources = Resources()
    """Limits of one instance."""
    steady_state: SteadyState | None = None
    """The promise it is held to."""
    deploy: Deploy = Deploy()
    """How a new release replaces the old one."""
    stop: Stop = Stop()
    """How an instance is taken away."""
    max_age: LongDuration | None = None
    """Instances older than this are replaced by fresh ones, one at a time; each up to a tenth of it
    earlier, so that not all are due at once. Not where there is `state.role`."""
    state: State | None = None
    """Only for a stateful service."""
    floor: Annotated[Whole, Field(ge=0, le=1000)] | None = None
    """Never fewer ready instances than this, whoever wants to disturb them; one if not said."""
    build_timeout: TimeLimit = 600.0
    """All build commands together."""
    test_timeout: TimeLimit = 600.0
    """All test commands together."""


RUN_FIELDS = frozenset(
    {"run", "protocol", "env", "needs", "health", "resources", "stop", "state", "test"}
)
"""What makes another release of a service when it changes, beside its artifact and secrets."""


class ServiceOverride(Model):
    """What an environment says differently about a service."""

    scale: ScaleForm | None = None
    """A number of instances, or {min, max, target}."""
    env: dict[EnvName, EnvValue] = {}
    """Added to the service's own."""
    resources: Resources | None = None
    """What is written here counts instead of the service's own; what is not stays."""
    deploy: Deploy | None = None
    """What is written here counts instead of the service's own; what is not stays, unless another
    `strategy` is."""
    floor: Annotated[Whole, Field(ge=0, le=1000)] | None = None
    """Instead of the service's own."""

    def applied(self, service: Service) -> Service:
        """The service as it is in the environment that says this."""
        said = {name: getattr(self, name) for name in ("scale", "resources", "deploy", "floor")}
        values = {
            name: _over(getattr(service, name), value)
            for name, value in said.items()
            if value is not None
        }
        return service.model_copy(update=values | {"env": service.env | self.env})


def _over(own: Any, said: Any) -> Any:
    if not isinstance(said, Deploy | Resources):
        return said
    written = {name: getattr(said, name) for name in said.model_fields_set}
    if "strategy" in written and written["strategy"] != own.strategy:
        return said  # options of another strategy would mean nothing
    return own.model_copy(update=written)


class Environment(Model):
    """One place the application runs."""

    engine: Literal["local", "docker", "kubernetes"] = "local"
    """What runs the instances."""
    context: Line | None = None
    """kubernetes: which cluster."""
    gateway_port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    """Where users come in here, so that two environments can share a machine."""
    production: Flag | None = None
    """Whether users depend on it: commands that destroy something ask first, and the reserve of
    `accounts` is kept for it; by default where the name is production, prod or live."""
    guard: Guard = Guard()
    """How much may be disturbed at once, whoever causes it."""
    volumes: Trash = Trash()
    """What happens to deleted volumes."""
    overrides: dict[Name, ServiceOverride] = {}
    """By service: what differs here."""


PRODUCTION = ("production", "prod", "live")
"""Names of environments that are taken for production unless they say otherwise."""


class Application(Model):
    """The whole manifest, includes resolved."""

    app: Name
    """Name of the application."""
    gateway: Gateway = Gateway()
    """Where users' requests come in."""
    services: Annotated[dict[Name, Service], Field(min_length=1)]
    """By name."""
    environments: Annotated[dict[Name, Environment], Field(min_length=1)] = {"dev": Environment()}
    """By name; the first one is the default."""
    accounts: dict[Name, Account] = {}
    """How often servers of others may be asked, by all environments together. A host that is in
    none of them is an account of its own."""
    include: tuple[str, ...] = ()
    """Further files of services, relative to this one. Commands also work in their folders. As this
    one they are no source, whatever they are called: a comment there makes no new release."""

    def in_environment(self, name: str) -> Application:
        """The same application with the overrides of one environment applied."""
        changed = dict(self.services)
        for service, override in self.environments[name].overrides.items():
            changed[service] = override.applied(changed[service])
        port = self.environments[name].gateway_port or self.gateway.port
        gateway = self.gateway.model_copy(update={"port": port})
        return self.model_copy(update={"services": changed, "gateway": gateway})

    def is_production(self, environment: str) -> bool:
        """Whether users depend on an environment."""
        said = self.environments[environment].production
        return environment in PRODUCTION if said is None else said

    @property
    def default_environment(self) -> str:
        """The first environment of the manifest."""
        return next(iter(self.environments))
