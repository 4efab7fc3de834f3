"""What a plan refuses before anything is sent, and what its defaults are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from volery.model.errors import Code, VoleryError
from volery.prober import Kind, ProbePlan, Stream

GOOD = Stream(Kind.HTTP1, "http://127.0.0.1:8080/", 10)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (replace(GOOD, url="https://127.0.0.1/"), "needs a URL"),
        (replace(GOOD, url="127.0.0.1:80"), "needs a URL"),
        (replace(GOOD, url="http://127.0.0.1:99999/"), "needs a port"),
        (replace(GOOD, url="http://127.0.0.1:0/"), "needs a port"),
        (replace(GOOD, kind=Kind.LINE), "tcp://"),
        (replace(GOOD, rate=0), "rate"),
        (replace(GOOD, rate=float("nan")), "rate"),
        (replace(GOOD, rate=10_001), "10000 requests a second"),
        (replace(GOOD, timeout=0), "timeout"),
        (replace(GOOD, span=4000), "span"),
        (replace(GOOD, payload=b"x" * (16 * 1024 * 1024 + 1)), "payload"),
        (replace(GOOD, max_in_flight=0), "max_in_flight"),
        (replace(GOOD, connections=0), "connections"),
        (replace(GOOD, pieces=0), "pieces"),
        (replace(GOOD, headers=(("a", "b\r\nevil: 1"),)), "line breaks"),
        (replace(GOOD, method="GET /\n"), "line breaks"),
    ],
)
def test_what_is_out_of_bounds_is_refused(stream: Stream, says: str) -> None:
    with pytest.raises(VoleryError, match=says) as refused:
        ProbePlan((stream,)).checked()
    assert refused.value.code is Code.INVALID


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("nan")])
def test_a_probe_is_bounded_in_time(seconds: float) -> None:
    with pytest.raises(VoleryError, match="at most 3600 s"):
        ProbePlan((GOOD,), seconds).checked()


def test_a_probe_needs_a_stream() -> None:
    with pytest.raises(VoleryError, match="at least one stream"):
        ProbePlan(()).checked()


@pytest.mark.parametrize("host", ["10.0.0.1", "example.com", "0.0.0.0", "[2001:db8::1]"])
def test_another_machine_is_refused_unless_allowed(host: str) -> None:
    plan = ProbePlan((replace(GOOD, url=f"http://{host}:80/"),))
    with pytest.raises(VoleryError, match="not this machine") as refused:
        plan.checked()
    assert refused.value.code is Code.REFUSED
    assert replace(plan, allow_remote=True).checked().streams[0].url == f"http://{host}:80/"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_this_machine_is_allowed(host: str) -> None:
    ProbePlan((replace(GOOD, url=f"http://{host}:80/"),)).checked()


def test_streams_get_distinct_names() -> None:
    plan = ProbePlan((GOOD, GOOD, replace(GOOD, name="mine"), GOOD)).checked()
    assert [stream.label for stream in plan.streams] == ["http1", "http1-2", "mine", "http1-3"]


def test_what_is_sent_by_default() -> None:
    assert GOOD.verb == "GET"
    assert GOOD.body(3) == b""
    assert replace(GOOD, payload=b"n={n}").verb == "POST"
    assert replace(GOOD, payload=b"n={n}").body(3) == b"n=3"
    assert Stream(Kind.LINE, "tcp://127.0.0.1:1", 1).body(4) == b"ping 4"
    assert Stream(Kind.LINE, "tcp://127.0.0.1:1", 1).echoes
    assert Stream(Kind.GRPC, "http://127.0.0.1:1/a.B/C", 1).verb == "POST"
    assert replace(GOOD, url="http://localhost/a?b=c").address == ("127.0.0.1", 80)
    assert replace(GOOD, url="http://localhost/a?b=c").path == "/a?b=c"
