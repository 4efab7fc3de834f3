"""Edges to other services and the policy of each, as a team writes them.

The data plane carries a policy out (see `traffic.routes` and `traffic.clusters`), so that no
service needs a library for it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from volery.model.fields import (
    Duration,
    Name,
    Percent,
    Short,
    TimeLimit,
    Whole,
    is_written,
    needs_form,
)
from volery.model.form import Model

BUDGET = 0.2
"""The retry budget where none is written, and the least there is."""
KEEP_TRYING_SECONDS = 30.0
"""How long keep_trying goes on where no timeout is written."""


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
        base, cap = base.strip(), cap.strip()
        return {"base": base, "cap": cap} if dots else {"base": base, "cap": base}

    @model_validator(mode="after")
    def _grows(self, info: ValidationInfo) -> Backoff:
        written = is_written(info) and "cap" in self.model_fields_set
        if written and self.cap < self.base:
            raise ValueError("the longest wait must be at least the first: 25ms..250ms")
        return self


class Retry(Model):
    """How often and when a call is tried again. Without a word: these defaults."""

    attempts: Annotated[Whole, Field(ge=1, le=10)] = 3
    """Tries in all; with 1 only what never reached the callee is tried again."""
    per_try: TimeLimit | None = None
    """How long one try may take."""
    backoff: Annotated[
        Backoff,
        Short(
            {"type": "string", "examples": ["25ms..250ms"]},
            description="First wait .. longest wait; if not written 25ms..250ms",
        ),
    ] = Backoff()
    on: tuple[Literal["connect", "reset", "5xx", "timeout", "gateway-error"], ...] = (
        "connect",
        "reset",
    )
    """Which failures are tried again. An answer is an answer: statuses only if you say so."""
    methods: Literal["idempotent", "all"] = "idempotent"
    """idempotent: GET, HEAD, OPTIONS, PUT, DELETE, TRACE; all: also calls that a repetition does
    twice, and gRPC, whose calls are all POST."""
    budget: Percent = BUDGET
    """Retries may be at most this share of the calls under way. A service has one budget for all
    its callers: the largest that one asks for, never less than 20%, and always 50 at once. `0%` is
    kept: only what never reached the callee is tried again."""


def longest_seconds(retry: Retry) -> float | None:
    """How long all tries and the waits between them can take; None if a try has no limit."""
    if retry.per_try is None:
        return None
    waits = (
        min(retry.backoff.base * 2.0**number, retry.backoff.cap)
        for number in range(retry.attempts - 1)
    )
    return retry.attempts * retry.per_try + sum(waits)


class Need(Model):
    """An edge to another service and its policy."""

    timeout: TimeLimit | None = None
    """How long a call may take, all tries included: three times what it usually does, or more. For
    grpc: until each try begins to answer. For tcp: how long keep_trying waits for a connection."""
    retry: Retry | None = None
    """When a call is tried again; what this leaves out has defaults."""
    when_unavailable: Literal["fail_fast", "keep_trying"] = "fail_fast"
    """fail_fast: callers get an answer at once; keep_trying: calls wait and are tried again until
    `timeout` (30s if there is none)."""
    importance: Literal["critical", "degradable", "unknown"] = "unknown"
    """A caller starts after its needs, but not after a degradable one: it can do without. While a
    need is down its caller is shown as down, or as degraded if the need is degradable."""


Needs = Annotated[
    dict[Name, Annotated[Need, Short({"type": "null"})]],
    BeforeValidator(needs_form),
    Short(
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        description="Edges to other services: a list of names, or a mapping of names to policies",
    ),
]
