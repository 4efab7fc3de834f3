"""What a team writes: the one typed model of the manifest, normalised.

Short forms (`scale: 2`, `needs: [a, b]`, `build: make`) are accepted where the contract allows them
and come out as the long form, so the rest of Volery sees one shape. All values are plain: seconds,
bytes, fractions. The JSON Schema of `volery schema` is generated from these classes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from volery.model.units import (
    Condition,
    parse_condition,
    parse_duration,
    parse_percent,
    parse_size,
)

NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
SHELL_WORDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"})
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*(k|M|G|T|Ki|Mi|Gi|Ti)?B?$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*%$"
CONDITION_PATTERN = r"^(<=?|>=?)\s*[0-9]\S*$"
WRITTEN = {"written": True}
"""Validation context of a manifest: a bare number has no unit there and is a mistake. Without it,
plain numbers are values of ours coming back as JSON."""


class Short:
    """Says in the JSON Schema that a field may also be written in a shorter form."""

    def __init__(self, *forms: dict[str, Any], description: str = "") -> None:
        self.forms = forms
        self.description = description

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The short forms or the long one."""
        said = {"description": self.description} if self.description else {}
        return {"anyOf": [*self.forms, handler(core_schema)], **said}


def _schema(kind: str, pattern: str, example: str, description: str) -> Any:
    return WithJsonSchema(
        {"type": kind, "pattern": pattern, "examples": [example], "description": description}
    )


def _text_unit(parse: Callable[[str], object], phrase: str) -> BeforeValidator:
    def read(value: object, info: ValidationInfo) -> object:
        if isinstance(value, str):
            return parse(value)
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and not (info.context or {}).get("written"):
            return value
        raise ValueError(f"must be {phrase}")

    return BeforeValidator(read)


def _matching(pattern: str, phrase: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Text of one form: `phrase` says which, the JSON Schema gets the pattern."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None or "\n" in value:
            raise ValueError(f"must be {phrase}, got {value!r}")
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": pattern})


def _condition(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return parse_condition(value)
    if (info.context or {}).get("written"):
        raise ValueError("must be a condition such as '< 1%' or '<= 300ms'")
    return value


def _upper_limit(unit: str, example: str) -> AfterValidator:
    def check(value: Condition) -> Condition:
        if value.unit != unit or value.operator not in ("<", "<="):
            raise ValueError(f"must be an upper limit such as '{example}'")
        return value

    return AfterValidator(check)


def _command(value: object) -> object:
    """A command is an argument list; text is split like a shell would, but no shell runs it."""
    if not isinstance(value, str):
        return value
    try:
        words = shlex.split(value)
    except ValueError as error:
        reason = str(error).lower()
        raise ValueError(f"cannot be split into words: {reason} in {value!r}") from None
    if not words or not words[0]:
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


def _address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError(
            f"must be an IP address such as 127.0.0.1 or 0.0.0.0, got {value!r}"
        ) from None
    return value


def _ascending(steps: tuple[float, ...]) -> tuple[float, ...]:
    before = 0.0
    for step in steps:
        if step <= before:
            raise ValueError(f"must ascend, got {step * 100:g}% after {before * 100:g}%")
        before = step
    return steps


def _needs(value: object) -> object:
    """`[a, b]` and `{a: }` are short for `{a: {}, b: {}}`."""
    if isinstance(value, list):
        wrong = next((need for need in value if not isinstance(need, str)), None)
        if wrong is not None or None in value:
            raise ValueError("must be a list of service names, or a mapping of them to policies")
        twice = next((need for need in value if value.count(need) > 1), None)
        if twice:
            raise ValueError(f"must name each service once, got {twice!r} twice")
        return {need: {} for need in value}
    if isinstance(value, dict):
        return {need: {} if policy is None else policy for need, policy in value.items()}
    return value


Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, AfterValidator(_no_nul)]
Name = Annotated[
    str,
    *_matching(NAME, "a name of lower-case letters, digits and '-' (at most 40, a letter first)"),
]
EnvName = Annotated[
    str, *_matching(r"^[A-Za-z_][A-Za-z0-9_]*$", "a variable name such as LOG_LEVEL")
]
UrlPath = Annotated[str, *_matching(r"^/[^\s?#]*$", "a path such as /api")]
ProbePath = Annotated[str, *_matching(r"^/[^\s#]*$", "a path such as /healthz")]
HostName = Annotated[str, *_matching(r"^[A-Za-z0-9.*-]+$", "a host name such as shop.example.com")]
Address = Annotated[
    str,
    AfterValidator(_address),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1", "0.0.0.0"]}),
]
EnvValue = Annotated[
    Text,
    BeforeValidator(_scalar_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Duration = Annotated[
    float,
    _text_unit(parse_duration, "a duration such as 300ms, 2s, 10m or 1h"),
    Field(ge=0, le=30 * 86400),
    _schema("string", DURATION_PATTERN, "10s", "A duration: 300ms, 2s, 10m, 1h"),
]
LongDuration = Annotated[Duration, Field(gt=0)]
Size = Annotated[
    int,
    _text_unit(parse_size, "a size such as 256Mi or 1Gi"),
    Field(gt=0),
    _schema("string", SIZE_PATTERN, "256Mi", "A size: 256Mi, 1Gi"),
]
Percent = Annotated[
    float,
    _text_unit(parse_percent, "a percentage such as 5%"),
    Field(ge=0, le=1),
    _schema("string", PERCENT_PATTERN, "5%", "A percentage: 5%"),
]
Limit = Annotated[
    Condition,
    BeforeValidator(_condition),
    _schema("string", CONDITION_PATTERN, "< 1%", "A condition: < 1%, <= 300ms, >= 99.9%"),
]
ErrorLimit = Annotated[Limit, _upper_limit("fraction", "< 1%")]
LatencyLimit = Annotated[Limit, _upper_limit("seconds", "< 300ms")]
_WORDS = {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1}
_ONE = {"anyOf": [{"type": "string"}, _WORDS]}
Command = Annotated[
    tuple[Text, ...],
    BeforeValidator(_command),
    Field(min_length=1),
    WithJsonSchema(
        _ONE | {"description": "A command: split like a shell would, run without a shell"}
    ),
]
Commands = Annotated[
    tuple[Command, ...],
    BeforeValidator(_commands),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": _ONE}],
            "description": "One command, or a list of commands run one after the other",
        }
    ),
]


class Model(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Route(Model):
    """Requests whose path starts with `path` (and whose host is `host`) go to `service`."""

    path: UrlPath = "/"
    """Path prefix on whole segments; the longest one wins."""
    service: Name
    host: HostName | None = None
    """Only for this host name."""
    strip: UrlPath | None = None
    """A prefix of `path` that the service does not see."""


class Gateway(Model):
    """Where users' requests come in."""

    port: Annotated[Whole, Field(ge=1, le=65535)] = 8080
    host: Address = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens it to the network."""
    routes: tuple[Route, ...] = ()


class Backoff(Model):
    """Wait between attempts: starts at `base`, doubles, never over `cap`, with full jitter."""

    base: Duration = 0.025
    cap: Duration = 0.25

    @model_validator(mode="before")
    @classmethod
    def _range(cls, value: object) -> object:
        if isinstance(value, dict | cls):
            return value
        if not isinstance(value, str):
            raise ValueError("must be a range such as 25ms..250ms")
        base, dots, cap = value.partition("..")
        return {"base": base, "cap": cap} if dots else {"base": base, "cap": base}


class Retry(Model):
    """How often and when a call is tried again."""

    attempts: Annotated[Whole, Field(ge=1, le=10)] = 2
    """Tries in all, the first one included."""
    per_try: Duration | None = None
    backoff: Annotated[
        Backoff,
        Short(
            {"type": "string", "examples": ["25ms..250ms"]},
            description="First wait .. longest wait",
        ),
    ] = Backoff()
    on: tuple[Literal["connect", "reset", "5xx", "timeout", "gateway-error"], ...] = ("connect",)
    budget: Percent = 0.2
    """Retries may be at most this share of the calls under way."""


class Need(Model):
    """An edge to another service and its policy."""

    timeout: Duration | None = None
    retry: Retry | None = None
    when_unavailable: Literal["fail_fast", "keep_trying"] = "fail_fast"
    importance: Literal["critical", "degradable", "unknown"] = "unknown"


Needs = Annotated[
    dict[Name, Annotated[Need, Short({"type": "null"})]],
    BeforeValidator(_needs),
    Short(
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        description="Edges to other services: a list of names, or a mapping of names to policies",
    ),
]


class Probe(Model):
    """One check of an instance: an HTTP path, a TCP connection, or a command that exits 0."""

    path: ProbePath | None = None
    tcp: Literal[True] | None = None
    command: Command | None = None

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
    live: ProbeForm | None = None
    every: LongDuration = 1.0
    timeout: LongDuration = 1.0
    failures: Annotated[Whole, Field(ge=1, le=100)] = 3
    startup: LongDuration = 30.0


class Target(Model):
    """What the autoscaler aims at."""

    concurrency: Annotated[Number, Field(gt=0)]


class Scale(Model):
    """How many instances."""

    min: Annotated[Whole, Field(ge=0, le=1000)] = 1
    max: Annotated[Whole, Field(ge=1, le=1000)] = 1
    target: Target | None = None

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if isinstance(value, dict | cls):
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
    pids: Annotated[Whole, Field(ge=1)] | None = None
    """Processes and threads."""
    files: Annotated[Whole, Field(ge=16)] | None = None
    """Open files."""


class SteadyState(Model):
    """The promise a service is held to."""

    errors: ErrorLimit | None = None
    latency: dict[Literal["p50", "p90", "p95", "p99", "p999"], LatencyLimit] = {}


class Deploy(Model):
    """How a new release replaces the old one."""

    strategy: Literal["canary", "blue-green", "rolling", "recreate"] = "rolling"
    steps: Annotated[tuple[Percent, ...], AfterValidator(_ascending)] = (0.01, 0.05, 0.25, 0.5)
    at_most: Duration = 600.0
    on_inconclusive: Literal["promote", "rollback", "pause"] = "pause"
    approve: Flag = False
    surge: Annotated[Whole, Field(ge=0, le=1000)] = 1
    """rolling: how many instances more than `scale` may exist at once."""
    unavailable: Annotated[Whole, Field(ge=0, le=1000)] = 0
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
    needs: Needs = {}
    health: Health = Health()
    scale: ScaleForm = Scale()
    resources: Resources = Resources()
    steady_state: SteadyState | None = None
    deploy: Deploy = Deploy()
    stop: Stop = Stop()
    state: State | None = None
    build_timeout: Duration = 600.0
    test_timeout: Duration = 600.0


class Override(Model):
    """What an environment says differently about a service."""

    scale: ScaleForm | None = None
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
