"""What a team writes: the one typed model of the manifest, normalised.

Short forms (`scale: 2`, `needs: [a, b]`, `build: make`) are accepted where the contract allows them
and come out as the long form, so the rest of Volery sees one shape. All values are plain: seconds,
bytes, fractions. The JSON Schema of `volery schema` is generated from these classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from volery.model.fields import (
    Address,
    Command,
    Commands,
    Duration,
    EnvName,
    EnvValue,
    ErrorLimit,
    Flag,
    HeaderName,
    HeaderText,
    HeaderValue,
    HostName,
    LatencyLimit,
    Limit,
    LongDuration,
    Name,
    Number,
    Percent,
    ProbePath,
    Short,
    Size,
    Text,
    Token,
    Url,
    UrlPath,
    Whole,
    ascending,
    needs_form,
)
from volery.model.placeholders import placeholders


class Model(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Route(Model):
    """Requests whose path starts with `path` (and whose host is `host`) go to `service`."""

    path: UrlPath = "/"
    """Path prefix on whole segments; the longest one wins."""
    service: Name
    """Which service answers."""
    host: HostName | None = None
    """Only for this host name."""
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


class Backoff(Model):
    """Wait between attempts: starts at `base`, doubles, never over `cap`, with full jitter."""

    base: Duration = 0.025
    """The first wait."""
    cap: Duration = 0.25
    """The longest wait."""

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
    """How long one try may take."""
    backoff: Annotated[
        Backoff,
        Short(
            {"type": "string", "examples": ["25ms..250ms"]},
            description="First wait .. longest wait",
        ),
    ] = Backoff()
    on: tuple[Literal["connect", "reset", "5xx", "timeout", "gateway-error"], ...] = ("connect",)
    """Which failures are tried again; only `connect` is safe for calls that change something."""
    budget: Percent = 0.2
    """Retries may be at most this share of the calls under way."""


class Need(Model):
    """An edge to another service and its policy."""

    timeout: Duration | None = None
    """How long a call may take, all tries included."""
    retry: Retry | None = None
    """When a call is tried again; not at all if this is left out."""
    when_unavailable: Literal["fail_fast", "keep_trying"] = "fail_fast"
    """fail_fast: callers get an answer at once; keep_trying: calls go on."""
    importance: Literal["critical", "degradable", "unknown"] = "unknown"
    """A caller starts after its needs, but not after a degradable one: it can do without."""


Needs = Annotated[
    dict[Name, Annotated[Need, Short({"type": "null"})]],
    BeforeValidator(needs_form),
    Short(
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        description="Edges to other services: a list of names, or a mapping of names to policies",
    ),
]


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


class ScaleTarget(Model):
    """What the autoscaler aims at."""

    concurrency: Annotated[Number, Field(gt=0)]
    """Requests in flight per instance."""


class Scale(Model):
    """How many instances."""

    min: Annotated[Whole, Field(ge=0, le=1000)] = 1
    """Never fewer."""
    max: Annotated[Whole, Field(ge=1, le=1000)] = 1
    """Never more."""
    target: ScaleTarget | None = None
    """What decides between the two."""

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
    """Bytes, e.g. 256Mi."""
    pids: Annotated[Whole, Field(ge=1)] | None = None
    """Processes and threads."""
    files: Annotated[Whole, Field(ge=16)] | None = None
    """Open files."""


class SteadyState(Model):
    """The promise a service is held to."""

    errors: ErrorLimit | None = None
    """Share of failed requests."""
    latency: dict[Literal["p50", "p90", "p95", "p99", "p999"], LatencyLimit] = {}
    """By percentile."""


class Sticky(Model):
    """What says who the user is: a cookie (made if there is none) or a header."""

    cookie: Token | None = None
    """Name of a cookie."""
    header: Token | None = None
    """Name of a header."""

    @model_validator(mode="after")
    def _one(self) -> Sticky:
        if (self.cookie is None) == (self.header is None):
            raise ValueError("must have exactly one of cookie, header")
        return self


class Override(Sticky):
    """Requests that go to the canary on purpose: those whose cookie or header has this value."""

    value: HeaderValue = "canary"
    """The whole value."""


class Gate(Model):
    """Somebody else's say in a rollout: a command that exits 0, or a URL that answers 2xx.

    A `url` that begins with `/` is a smoke test: a GET to every new instance.
    """

    when: Literal["before_start", "before_step", "after"] = "before_step"
    """before_start: before anything of the new release runs; before_step: before its share of the
    requests grows (each time); after: when it has all of them, before the old one is given up."""
    command: Command | None = None
    """Runs in the folder of the manifest; VOLERY_* variables say what it is about."""
    url: Url | None = None
    """Gets a POST with what it is about as JSON; or a path for a GET to every new instance."""
    timeout: LongDuration = 30.0
    """How long it may take."""
    on_failure: Literal["abort", "hold"] = "abort"
    """abort: take the release back; hold: wait for `volery promote` or `volery abort`."""

    @model_validator(mode="after")
    def _one(self) -> Gate:
        if (self.command is None) == (self.url is None):
            raise ValueError("must have exactly one of command, url")
        if self.when == "before_start" and (self.url or "").startswith("/"):
            raise ValueError("a smoke test needs instances: use when: before_step")
        return self


class CustomMetric(Model):
    """A number from elsewhere that the new release is held to: a Prometheus query, or a command
    that prints it. `{service}`, `{release}` and `{track}` in them are filled in; if one of the
    last two is there, the old release is asked about too, and trouble both have is not blamed."""

    prometheus: Url | None = None
    """Base URL of a Prometheus API."""
    query: Text | None = None
    """What to ask it, in PromQL; the answer must be one number."""
    command: Command | None = None
    """Prints one number."""
    limit: Limit
    """The condition the number must meet."""
    every: LongDuration = 10.0
    """Time between two measurements."""
    timeout: LongDuration = 5.0
    """How long one measurement may take."""
    failures: Annotated[Whole, Field(ge=1, le=100)] = 3
    """In a row outside the limit, before the release is taken back."""

    @model_validator(mode="after")
    def _one(self) -> CustomMetric:
        if (self.command is None) == (self.prometheus is None):
            raise ValueError("must have exactly one of prometheus, command")
        if (self.prometheus is None) != (self.query is None):
            raise ValueError("prometheus and query go together")
        if self.prometheus is not None and (
            self.prometheus.startswith("/") or "?" in self.prometheus
        ):
            raise ValueError("prometheus must be a base URL such as http://127.0.0.1:9090")
        return self

    @property
    def by_group(self) -> bool:
        """Whether the old release is asked about too: the question names release or track."""
        texts = self.command or (self.query or "",)
        return any(placeholders(text) & {"release", "track"} for text in texts)


class Synthetic(Model):
    """Requests of ours where users' are too few to judge by; the evidence says how many."""

    path: ProbePath
    """What to ask for, at the service itself."""
    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """How."""
    headers: dict[HeaderName, HeaderText] = {}
    """Sent along."""
    body: Text = ""
    """Sent along."""
    rate: Annotated[Number, Field(gt=0, le=100)] = 5.0
    """Requests a second to each of the two groups."""


class Deploy(Model):
    """How a new release replaces the old one."""

    strategy: Literal["canary", "blue-green", "rolling", "recreate"] = "rolling"
    """rolling replaces instances one by one; blue-green switches all at once; canary shifts
    by evidence; recreate stops first."""
    steps: Annotated[tuple[Percent, ...], AfterValidator(ascending)] = (0.01, 0.05, 0.25, 0.5)
    """canary: shares of the requests; each step advances when the evidence suffices."""
    at_most: Duration = 600.0
    """canary: how long a step waits for evidence."""
    on_inconclusive: Literal["promote", "rollback", "pause"] = "pause"
    """canary: what to do without enough evidence."""
    approve: Flag = False
    """canary: wait for `volery promote` before the last step."""
    baseline: Flag = False
    """canary: compare with a group of the old release that is as large and as young."""
    warm_up: Duration = 20.0
    """canary: new instances may be slower than those that have run for long, by an allowance that
    halves in this time; not with a baseline, which is as young as the canary."""
    ramp: Duration = 0.0
    """canary: over this time its share grows to the first step's."""
    sticky: Sticky | None = None
    """canary: keeps each user in one group."""
    override: Override | None = None
    """canary: which requests reach the new release on purpose."""
    mirror: Percent = 0.0
    """canary: before the first step, this share of the requests is copied to the new release and
    the answers to the copies are discarded."""
    mirror_methods: Literal["safe", "all"] = "safe"
    """canary: which requests are copied: GET, HEAD and OPTIONS, or all."""
    synthetic: tuple[Synthetic, ...] = ()
    """canary: requests of ours where users' are too few."""
    gates: tuple[Gate, ...] = ()
    """Commands and URLs that have a say."""
    metrics: dict[Name, CustomMetric] = {}
    """Numbers from elsewhere that the new release is held to."""
    watch: Duration = 10.0
    """blue-green: how long the new release is watched after the switch, at most."""
    surge: Annotated[Whole, Field(ge=0, le=1000)] = 1
    """rolling: how many instances more than `scale` may exist at once."""
    unavailable: Annotated[Whole, Field(ge=0, le=1000)] = 0
    """rolling: how many instances fewer than `scale` may be ready at once."""
    warm: Duration = 600.0
    """canary and blue-green: how long the old group stays ready to take over again."""

    @model_validator(mode="after")
    def _can_move(self) -> Deploy:
        if self.surge == 0 and self.unavailable == 0:
            raise ValueError("surge and unavailable cannot both be 0: nothing could ever move")
        return self


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
    """Prints primary, replica or syncing."""
    switchover: Command | None = None
    """Makes this replica the primary."""


class Service(Model):
    """One independently deployable process type."""

    team: str | None = None
    """Owner: alerts and approvals go there."""
    source: str = "."
    """Folder of the source, relative to the file that says so."""
    build: Commands = ()
    """Runs in a clean copy of the source."""
    test: Commands = ()
    """Runs after build; a failure stops the release there."""
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
    state: State | None = None
    """Only for a stateful service."""
    build_timeout: Duration = 600.0
    """All build commands together."""
    test_timeout: Duration = 600.0
    """All test commands together."""


class ServiceOverride(Model):
    """What an environment says differently about a service."""

    scale: ScaleForm | None = None
    """A number of instances, or {min, max, target}."""
    env: dict[EnvName, EnvValue] = {}
    """Added to the service's own."""
    resources: Resources | None = None
    """Instead of the service's own."""
    deploy: Deploy | None = None
    """Instead of the service's own."""


class Environment(Model):
    """One place the application runs."""

    engine: Literal["local", "docker", "kubernetes"] = "local"
    """What runs the instances."""
    context: str | None = None
    """kubernetes: which cluster."""
    gateway_port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    """Where users come in here, so that two environments can share a machine."""
    overrides: dict[Name, ServiceOverride] = {}
    """By service: what differs here."""


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
    include: tuple[str, ...] = ()
    """Further files of services, relative to this one."""

    def in_environment(self, name: str) -> Application:
        """The same application with the overrides of one environment applied."""
        changed = dict(self.services)
        for service, override in self.environments[name].overrides.items():
            given = {key: getattr(override, key) for key in ("scale", "resources", "deploy")}
            values = {key: value for key, value in given.items() if value is not None}
            env = changed[service].env | override.env
            changed[service] = changed[service].model_copy(update=values | {"env": env})
        port = self.environments[name].gateway_port or self.gateway.port
        gateway = self.gateway.model_copy(update={"port": port})
        return self.model_copy(update={"services": changed, "gateway": gateway})

    @property
    def default_environment(self) -> str:
        """The first environment of the manifest."""
        return next(iter(self.environments))
