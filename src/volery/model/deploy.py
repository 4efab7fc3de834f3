"""How a new release replaces the old one, as a team writes it: strategy, gates, metrics.

What the keys mean for a rollout is in `decide.staged` and `decide.strategy`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from volery.model.fields import (
    Command,
    Duration,
    Flag,
    HeaderName,
    HeaderText,
    HeaderValue,
    Limit,
    LongDuration,
    Name,
    Number,
    Percent,
    ProbePath,
    Text,
    TimeLimit,
    Token,
    Url,
    Whole,
    ascending,
)
from volery.model.form import Model
from volery.model.placeholders import placeholders

STEPS = (0.01, 0.05, 0.25, 0.5)
STAGED = ("canary", "blue-green")
"""Strategies that make a whole new group beside the old one."""
NOT_COPIED = ("grpc", "tcp")
"""Protocols of which no requests are copied, nor made by us."""


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
    requests grows (each time); after: when it has all of them, before the old one is given up.
    Only canary and blue-green deploys have steps."""
    command: Command | None = None
    """Runs in the folder of the manifest; VOLERY_* variables say what it is about."""
    url: Url | None = None
    """Gets a POST with what it is about as JSON; or a path for a GET to every new instance."""
    timeout: LongDuration = 30.0
    """How long it may take."""
    on_failure: Literal["abort", "hold"] = "abort"
    """abort: take the release back; hold: wait for `volery promote`, `volery abort`, or `volery
    resume`, which asks again."""

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
    """Sent along; `{n}` becomes the number of the request."""
    rate: Annotated[Number, Field(gt=0, le=100)] = 5.0
    """Requests a second to each of the two groups."""


class Deploy(Model):
    """How a new release replaces the old one."""

    strategy: Literal["canary", "blue-green", "rolling", "recreate"] = "rolling"
    """rolling replaces instances one by one; blue-green switches all at once; canary shifts
    by evidence; recreate stops first."""
    steps: Annotated[tuple[Percent, ...], AfterValidator(ascending)] | None = None
    """canary: shares of the requests; each step advances when the evidence suffices. If not
    written: 1%, 5%, 25%, 50%, without those at the beginning that could hardly tell anything within
    `at_most` at today's traffic."""
    at_most: TimeLimit = 600.0
    """canary: how long a step waits for evidence; blue-green: how long a switch is watched that
    something speaks against."""
    on_inconclusive: Literal["promote", "rollback", "pause"] = "pause"
    """canary and blue-green: what to do without enough evidence."""
    approve: Flag = False
    """canary and blue-green: wait for `volery promote` before the last step."""
    baseline: Flag = False
    """canary: compare with a group of the old release that is as large and as young."""
    warm_up: Duration = 20.0
    """New instances may be slower than those that have run for long, by an allowance that halves in
    this time; not with a baseline, which is as young as the canary. Healing replaces no instance
    for being slow in its first three such times."""
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
    """blue-green: how long the new release is watched after the switch; longer while something
    speaks against it, see `at_most`."""
    surge: Annotated[Whole, Field(ge=0, le=1000)] = 1
    """rolling: how many instances more than `scale` may exist at once."""
    unavailable: Annotated[Whole, Field(ge=0, le=1000)] = 0
    """rolling: how many instances fewer than `scale` may be ready at once."""
    warm: Duration = 600.0
    """canary and blue-green: how long the old group stays ready to take over again."""

    @property
    def shares(self) -> tuple[float, ...]:
        """The steps that are written, else all there may be."""
        return STEPS if self.steps is None else self.steps
