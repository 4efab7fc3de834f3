"""Accounts of ours with servers of others, as a team writes them: what may be asked how often.

An account is whoever a server counts our requests for: a key, a user, or simply this machine. All
environments on one machine draw on it; a part is kept for those that are like production.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from volery.model.fields import Number, Percent, Text
from volery.model.form import Model
from volery.model.units import parse_rate

_NAMED = r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
_NUMBERED = r"\[[0-9a-fA-F:.]+\]"
HOST = rf"^({_NAMED}|{_NUMBERED})(:[0-9]{{1,5}})?$"
RATE = r"^[0-9]+(\.[0-9]+)?/(s|m|h|d)$"
BURST_SECONDS = 2.0
BURST_LEAST = 2.0


def _host(value: str) -> str:
    if re.fullmatch(HOST, value) is None:
        raise ValueError(f"must be a host such as api.example.com or *.example.com, got {value!r}")
    return value.lower()


AccountHost = Annotated[
    Text, AfterValidator(_host), WithJsonSchema({"type": "string", "pattern": HOST})
]
Rate = Annotated[
    Number,
    BeforeValidator(lambda value: parse_rate(value) if isinstance(value, str) else value),
    Field(gt=0, le=10_000),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": RATE, "examples": ["5000/h"]},
            ],
            "description": "Requests a second, or 5000/h, 30/m",
        }
    ),
]


class Account(Model):
    """What one server, or several that count together, may be asked by all environments here."""

    hosts: Annotated[tuple[AccountHost, ...], Field(min_length=1)]
    """Whose requests count together: host names, `*.example.com`, also with a port."""
    rate: Rate = 50.0
    """Requests a second on average, of all environments on this machine; or `5000/h`, `30/m`."""
    burst: Annotated[Number, Field(ge=1, le=100_000)] | None = None
    """How many may be sent at once after a pause; by default those of two seconds, at least 2."""
    reserve: Annotated[Percent, Field(lt=1)] = 0.5
    """Share of both that is kept for environments with `production`."""

    @property
    def size(self) -> float:
        """The burst, written or not."""
        return max(BURST_LEAST, self.rate * BURST_SECONDS) if self.burst is None else self.burst

    @model_validator(mode="after")
    def _room(self) -> Account:
        kept, left = self.size * self.reserve, self.size * (1 - self.reserve)
        if left < 1 or 0 < kept < 1:
            raise ValueError(
                f"a burst of {self.size:g} with a reserve of {self.reserve * 100:g}% leaves less "
                "than one request to a side; make the burst larger, or reserve: 0%"
            )
        return self
