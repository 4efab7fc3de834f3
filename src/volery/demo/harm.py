"""What a bad release did to users, from the proxies' own record of requests.

The gateway writes a line for each request, and every edge one for each that failed, with the same
request id where a caller passes it on. So a failed request of a user is known to be a release's own
doing (it answered 5xx, broke off or could not be reached) or not. Whatever is not is Volery's loss.
This reads files; it asks nobody and changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RECORD_SECONDS = 20.0
GATEWAY = "gateway"
BROKEN = frozenset({"UC", "UF", "UH", "UO", "UPE", "UR", "URX", "UT", "LR"})
"""Envoy's flags of an answer that the other side did not give, or not to its end."""


@dataclass(frozen=True)
class Request:
    """One line of the record. `at` is RFC 3339; `cluster` the group that was asked."""

    at: str
    via: str
    cluster: str
    identity: str
    failed: bool


@dataclass(frozen=True)
class Window:
    """When a group (`catalog~b`) belonged to one release: RFC 3339, both ends included."""

    cluster: str
    began: str
    ended: str

    def has(self, request: Request) -> bool:
        """Whether this request went to that release."""
        return request.cluster == self.cluster and self.began <= request.at <= self.ended


def failed_by(window: Window, requests: Sequence[Request]) -> frozenset[str]:
    """The users' requests that failed because the release failed them, by id."""
    its = {item.identity for item in requests if item.failed and window.has(item)}
    return frozenset(
        item.identity
        for item in requests
        if item.via == GATEWAY and item.failed and item.identity in its
    )


def parse(lines: Iterable[str]) -> Iterator[Request]:
    """The requests among the lines of a proxy's log; everything else is left out."""
    for line in lines:
        if not line.startswith('{"at"'):
            continue
        try:
            found = json.loads(line)
            broken = not BROKEN.isdisjoint(found["flags"].split(","))
            status = int(found["status"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that was cut when the log was
        yield Request(
            at=found["at"],
            via=found["via"],
            cluster=found["cluster"] or "",
            identity=found["request"] or "",
            failed=broken or status == 0 or status >= 500,
        )


def record(traffic: Path, until: str) -> list[Request]:
    """All requests on record once it reaches beyond a moment; users have to be there, for the
    proxies write when something happens."""
    deadline = time.monotonic() + RECORD_SECONDS
    while True:
        found = list(parse(_lines(traffic)))
        late = max((item.at for item in found), default="")
        if late > until or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _lines(traffic: Path) -> Iterator[str]:
    for proxy in sorted((traffic / "envoy").glob("*")):
        for name in ("log.1", "log"):
            if (proxy / name).is_file():
                yield from (proxy / name).read_text(errors="replace").splitlines()
