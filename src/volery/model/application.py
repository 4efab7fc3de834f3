"""What a team writes: the one typed model of the manifest, normalised.

Short forms (`scale: 2`, `needs: [a, b]`, `build: make`) are accepted where the contract allows them
and come out as the long form, so the rest of Volery sees one shape. All values are plain: seconds,
bytes, fractions. The JSON Schema of `volery schema` is generated from these classes.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from volery.model.units import (
    Condition,
    parse_condition,
    parse_duration,
    parse_percent,
    parse_size,
)

NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
SHELL_WORDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"})


def _text_unit(parse: Any) -> Any:
    def read(value: object) -> object:
        if isinstance(value, bool) or value is None:
            raise ValueError(f"must be text with a unit, got {value!r}")
        if isinstance(value, int | float):  # already plain: a value of ours coming back as JSON
            return value
        return parse(str(value))

    return read


def _condition(value: object) -> object:
    return parse_condition(value) if isinstance(value, str) else value


def _command(value: object) -> object:
    """A command is an argument list; text is split like a shell would, but no shell runs it."""
    if not isinstance(value, str):
        return value
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {error}") from None
    if not words:
        raise ValueError("must be a command, got nothing")
    found = next((word for word in words if word in SHELL_WORDS), None)
    if found:
        raise ValueError(f"no shell runs this, so {found!r} has no meaning; use sh -c '...'")
    return words


def _commands(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    return value


def _scalar_text(value: object) -> object:
    """Environment values may be written as numbers or booleans; a process only knows text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _schema(kind: str, example: str, description: str) -> Any:
    return WithJsonSchema({"type": kind, "examples": [example], "description": description})


Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, AfterValidator(_no_nul)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
EnvValue = Annotated[Text, BeforeValidator(_scalar_text)]
Duration = Annotated[
    float,
    BeforeValidator(_text_unit(parse_duration)),
    Field(ge=0, le=30 * 86400),
    _schema("string", "10s", "A duration: 300ms, 2s, 10m, 1h"),
]
Size = Annotated[
    int,
    BeforeValidator(_text_unit(parse_size)),
    Field(gt=0),
    _schema("string", "256Mi", "A size: 256Mi, 1Gi"),
]
Percent = Annotated[
    float,
    BeforeValidator(_text_unit(parse_percent)),
    Field(ge=0, le=1),
    _schema("string", "5%", "A percentage: 5%"),
]
Limit = Annotated[
    Condition,
    BeforeValidator(_condition),
    _schema("string", "< 1%", "A condition: < 1%, <= 300ms, >= 99.9%"),
]
Command = Annotated[
    tuple[Text, ...],
    BeforeValidator(_command),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "A command: split like a shell would, run without a shell",
        }
    ),
]
Commands = Annotated[
    tuple[Command, ...],
    BeforeValidator(_commands),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "One command, or a list of commands run one after the other",
        }
    ),
]


class Model(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Route(Model):
    """Requests whose path starts with `path` (and whose host is `host`) go to `service`."""

    path: Annotated[str, Field(pattern=r"^/[^\s?#]*$")] = "/"
    """Path prefix on whole segments; the longest one wins."""
    service: Name
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.*-]+$")] | None = None
    """Only for this host name."""
    strip: Annotated[str, Field(pattern=r"^/[^\s?#]*$")] | None = None
    """A prefix of `path` that the service does not see."""


class Gateway(Model):
    """Where users' requests come in."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    host: Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+$")] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens it to the network."""
    routes: tuple[Route, ...] = ()


class Backoff(Model):
    """Wait between attempts: starts at `base`, doubles, never over `cap`, with full jitter."""

    base: Duration = 0.025
    cap: Duration = 0.25

    @model_validator(mode="before")
    @classmethod
    def _range(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        base, dots, cap = value.partition("..")
        return {"base": base, "cap": cap} if dots else {"base": base, "cap": base}


class Retry(Model):
    """How often and when a call is tried again."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """Tries in all, the first one included."""
    per_try: Duration | None = None
    backoff: Annotated[Backoff, _schema("string", "25ms..250ms", "First wait .. longest wait")] = (
        Backoff()
    )
    on: tuple[Literal["connect", "reset", "5xx", "timeout", "gateway-error"], ...] = ("connect",)
    budget: Percent = 0.2
    """Retries may be at most this share of the calls under way."""


class Need(Model):
    """An edge to another service and its policy."""

    timeout: Duration | None = None
    retry: Retry | None = None
    when_unavailable: Literal["fail_fast", "keep_trying"] = "fail_fast"
    importance: Literal["critical", "degradable", "unknown"] = "unknown"


class Probe(Model):
    """One check of an instance: an HTTP path, a TCP connection, or a command that exits 0."""

    path: Annotated[str, Field(pattern=r"^/[^\s#]*$")] | None = None
    tcp: Literal[True] | None = None
    command: Command | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Probe:
        if sum(kind is not None for kind in (self.path, self.tcp, self.command)) != 1:
            raise ValueError("must have exactly one of path, tcp, command")
        return self


class Health(Model):
    """How Volery knows that an instance may serve (`ready`) and that it still lives (`live`)."""

    ready: Probe | None = None
    live: Probe | None = None
    every: Annotated[Duration, Field(gt=0)] = 1.0
    timeout: Annotated[Duration, Field(gt=0)] = 1.0
    failures: Annotated[int, Field(ge=1, le=100)] = 3
    startup: Annotated[Duration, Field(gt=0)] = 30.0


class Target(Model):
    """What the autoscaler aims at."""

    concurrency: Annotated[float, Field(gt=0)]


class Scale(Model):
    """How many instances."""

    min: Annotated[int, Field(ge=0, le=1000)] = 1
    max: Annotated[int, Field(ge=1, le=1000)] = 1
    target: Target | None = None

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if value < 1:
            raise ValueError(f"must be at least 1, got {value}")
        return {"min": value, "max": value}

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.max < self.min:
            raise ValueError(f"max must be at least min, got {self.min} and {self.max}")
        return self


class Resources(Model):
    """Limits of one instance."""

    cpu: Annotated[float, Field(gt=0, le=1024)] | None = None
    """Cores."""
    memory: Size | None = None
    pids: Annotated[int, Field(ge=1)] | None = None
    """Processes and threads."""
    files: Annotated[int, Field(ge=16)] | None = None
    """Open files."""


class SteadyState(Model):
    """The promise a service is held to."""

    errors: Limit | None = None
    latency: dict[Literal["p50", "p90", "p95", "p99", "p999"], Limit] = {}


class Deploy(Model):
    """How a new release replaces the old one."""

    strategy: Literal["canary", "blue-green", "rolling", "recreate"] = "rolling"
    steps: tuple[Percent, ...] = (0.01, 0.05, 0.25, 0.5)
    at_most: Duration = 600.0
    on_inconclusive: Literal["promote", "rollback", "pause"] = "pause"
    approve: bool = False
    surge: Annotated[int, Field(ge=0, le=1000)] = 1
    """rolling: how many instances more than `scale` may exist at once."""
    unavailable: Annotated[int, Field(ge=0, le=1000)] = 0
    """rolling: how many instances fewer than `scale` may be ready at once."""
    warm: Duration = 600.0
    """blue-green: how long the old group stays ready to take over again."""

    @model_validator(mode="after")
    def _can_move(self) -> Deploy:
        if self.surge == 0 and self.unavailable == 0:
            raise ValueError("surge and unavailable cannot both be 0: nothing could ever move")
        return self


class Stop(Model):
    """Stop sending requests -> drain what is in flight -> SIGTERM -> grace -> SIGKILL."""

    drain: Duration = 15.0
    grace: Duration = 10.0


class State(Model):
    """A stateful service: stable identity and a volume that survives."""

    volume: Name
    role: Command | None = None
    switchover: Command | None = None


class Service(Model):
    """One independently deployable process type."""

    team: str | None = None
    source: str = "."
    """Folder of the source, relative to the file that says so."""
    build: Commands = ()
    test: Commands = ()
    run: Command
    protocol: Literal["http", "http2", "grpc", "tcp"] = "http"
    env: dict[EnvName, EnvValue] = {}
    secrets: tuple[EnvName, ...] = ()
    needs: dict[Name, Need] = {}
    health: Health = Health()
    scale: Annotated[
        Scale,
        WithJsonSchema(
            {
                "anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/ScaleRange"}],
                "description": "A number of instances, or {min, max, target}",
            }
        ),
    ] = Scale()
    resources: Resources = Resources()
    steady_state: SteadyState | None = None
    deploy: Deploy = Deploy()
    stop: Stop = Stop()
    state: State | None = None
    build_timeout: Duration = 600.0
    test_timeout: Duration = 600.0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        needs = value.get("needs")
        if isinstance(needs, list) and all(isinstance(need, str) for need in needs):
            return value | {"needs": {need: {} for need in needs}}
        if isinstance(needs, dict):
            return value | {"needs": {k: {} if v is None else v for k, v in needs.items()}}
        return value


class Override(Model):
    """What an environment says differently about a service."""

    scale: Scale | None = None
    env: dict[EnvName, EnvValue] = {}
    resources: Resources | None = None
    deploy: Deploy | None = None


class Environment(Model):
    """One place the application runs."""

    engine: Literal["local", "docker", "kubernetes"] = "local"
    context: str | None = None
    overrides: dict[Name, Override] = {}


class Application(Model):
    """The whole manifest, includes resolved."""

    app: Name
    gateway: Gateway = Gateway()
    services: Annotated[dict[Name, Service], Field(min_length=1)]
    environments: dict[Name, Environment] = {"dev": Environment()}
    include: tuple[str, ...] = ()

    def in_environment(self, name: str) -> Application:
        """The same application with the overrides of one environment applied."""
        changed = dict(self.services)
        for service, override in self.environments[name].overrides.items():
            given = override.model_dump(exclude_unset=True, exclude={"env"})
            values = {key: getattr(override, key) for key in given}
            env = changed[service].env | override.env
            changed[service] = changed[service].model_copy(update=values | {"env": env})
        return self.model_copy(update={"services": changed})

    @property
    def default_environment(self) -> str:
        """The first environment of the manifest."""
        return next(iter(self.environments))
