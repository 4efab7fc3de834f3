"""What an environment's owner allows to be disturbed at once, as written under `guard:`.

See `decide.guard` for what counts as a disturbance and who goes first, `decide.brake` for when
automation stops.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volery.model.fields import Duration, LongDuration, Percent, Whole
from volery.model.form import Model


class Velocity(Model):
    """How quickly instances may be disturbed one after the other."""

    at_most: Annotated[Whole, Field(ge=1, le=100_000)] = 100
    """So many instances ..."""
    within: LongDuration = 60.0
    """... in this time."""


class BrakeLimits(Model):
    """When automation that does not help is stopped."""

    failures: Annotated[Whole, Field(ge=1, le=100)] = 5
    """So many automatic actions that did not help stop the automation of their service ..."""
    within: LongDuration = 600.0
    """... when they happen in this time."""
    services: Annotated[Whole, Field(ge=2, le=1000)] = 3
    """If the `failures` are of so many services, the whole environment's automation stops."""
    hold: LongDuration = 3600.0
    """After this time a brake lets go by itself."""


class Guard(Model):
    """One budget for all disruption, whoever causes it."""

    at_once: Percent = 0.33
    """At most this share of the ready instances may be disturbed at once; at least one may."""
    velocity: Velocity = Velocity()
    """How quickly."""
    starts: Annotated[Whole, Field(ge=1, le=10_000)] = 32
    """At most so many instances start at once when they are replaced or added without a deploy."""
    brake: BrakeLimits = BrakeLimits()
    """When automation stops."""


class Trash(Model):
    """What happens to deleted volumes."""

    keep: Duration = 86400.0
    """How long they can be restored."""
