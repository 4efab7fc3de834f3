"""Why an instance of a new release makes it a bad one, in words that help."""

from __future__ import annotations

from volery.control.rollouts import _why_bad
from volery.model.ports import Observation
from volery.model.state import Instance

WORKER = Instance("worker-1", "worker", "a", "worker@1", "run", 0.0, 0.0)


def why(detail: str, address: str | None = "127.0.0.1:20007") -> str:
    seen = Observation("worker-1", "starting", address=address, detail=detail)
    return _why_bad(WORKER, seen, crashes=0, waited=31, startup=30)


def test_who_does_not_listen_may_have_no_port() -> None:
    assert why("connection refused") == (
        "worker-1 was not ready within 30s: connection refused: nothing listens on $PORT"
        " (127.0.0.1:20007); a service without a port needs `health: {ready: {command: ...}}`"
    )


def test_who_listens_has_one() -> None:
    assert why("GET / answered 503") == "worker-1 was not ready within 30s: GET / answered 503"
