"""HTTP/2 and gRPC: what is lost, what is only asked again, and what a GOAWAY may do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from integration.prober.birds import birds
from integration.prober.http2_server import Http2Server
from integration.prober.servers import plan_for, probed

from volery.prober import Kind, ProbeReport, probe


@pytest.mark.parametrize(
    ("trick", "cause"),
    [
        ("error", "status_503"),
        ("rst", "reset"),
        ("rst in body", "reset"),
        ("short", "truncated_body"),
    ],
)
def test_each_lost_request_is_counted(trick: str, cause: str) -> None:
    server = Http2Server(trick)
    report = probed(Kind.HTTP2, server)
    assert report.causes == {cause: 10} == {cause: server.did[trick]}
    assert report.versions == {"demo@1": 30}
    assert server.connections == 1


@pytest.mark.parametrize(("trick", "cause"), [("close", "closed_before_answer"), ("kill", "reset")])
def test_a_lost_connection_loses_what_was_on_it(trick: str, cause: str) -> None:
    server = Http2Server(trick, every=8)
    report = probed(Kind.HTTP2, server, rate=100.0)
    assert set(report.causes) == {cause}
    assert report.lost >= server.did[trick] >= 4
    # A killed connection may take an answer with it that was on its way.
    assert report.ok == server.did["none"] or (trick == "kill" and report.ok < server.did["none"])


def test_a_good_server_loses_nothing_on_one_connection() -> None:
    server = Http2Server()
    report = probed(Kind.HTTP2, server)
    assert (report.causes, report.ok, server.connections) == ({}, 40, 1)


def test_a_server_that_goes_away_gracefully_loses_nothing() -> None:
    server = Http2Server("goaway")
    report = probed(Kind.HTTP2, server)
    assert (report.causes, report.ok) == ({}, 40)
    assert report.streams[0].retired >= 9
    assert server.connections >= 10


def test_what_a_goaway_leaves_behind_is_asked_again() -> None:
    server = Http2Server("goaway behind")
    report = probed(Kind.HTTP2, server)
    assert (report.causes, report.ok) == ({}, 40)
    assert report.streams[0].retried >= server.did["goaway behind"] >= 13


def test_a_refused_stream_is_asked_again() -> None:
    server = Http2Server("refuse")
    report = probed(Kind.HTTP2, server)
    assert (report.causes, report.ok) == ({}, 40)
    assert report.streams[0].retried == server.did["refuse"] == 13


def test_asking_again_has_an_end() -> None:
    server = Http2Server("refuse", every=1)
    report = probed(Kind.HTTP2, server)
    assert report.causes == {"goaway": 40}
    assert server.did["refuse"] == 160


def test_a_silent_stream_times_out_and_spares_the_others() -> None:
    server = Http2Server("silence")
    report = probed(Kind.HTTP2, server, timeout=5.0)
    assert (report.causes, server.connections) == ({"timeout": 10}, 1)


def test_a_server_that_takes_few_streams_gets_more_connections() -> None:
    server = Http2Server("goaway", every=2, streams=2)  # every second answer takes a while
    report = probed(Kind.HTTP2, server)
    assert (report.causes, report.ok) == ({}, 40)
    assert server.connections >= 4


def test_a_large_payload_obeys_flow_control_and_comes_back() -> None:
    server = Http2Server("wrong echo")
    options = {"payload": b"{n}" * 60_000, "echo": True, "method": "PUT"}
    report = probed(Kind.HTTP2, server, **options)
    assert report.causes == {"bad_echo": 10}


@pytest.mark.parametrize(
    ("trick", "cause"),
    [
        ("grpc half", "truncated_body"),
        ("grpc none", "truncated_body"),
        ("none", "malformed"),
        ("error", "status_503"),
        ("rst", "reset"),
    ],
)
def test_a_grpc_answer_must_be_whole(trick: str, cause: str) -> None:
    report = probed(Kind.GRPC, Http2Server(trick, every=1))
    assert report.causes == {cause: 40}


def _calling(kind: Kind, method: str, **options: Any) -> ProbeReport:
    settings: dict[str, Any] = {"payload": b"wren {n}", "echo": True, "span": 0.2, **options}
    with birds() as port:
        report = asyncio.run(probe(plan_for(kind, port, path=f"/b.B/{method}", **settings)))
    assert report.sent == 40
    return report


def test_grpc_calls_to_a_real_server() -> None:
    report = _calling(Kind.GRPC, "Echo")
    assert (report.causes, report.versions) == ({}, {"birds@1": 40})


def test_a_grpc_status_is_counted() -> None:
    report = _calling(Kind.GRPC, "Fails")
    assert report.causes == {"grpc_14": 10}
    assert report.samples[0].detail == "all have flown"


def test_an_unknown_grpc_method_is_counted() -> None:
    assert _calling(Kind.GRPC, "Nothing").causes == {"grpc_12": 40}


def test_grpc_streams_from_a_real_server() -> None:
    assert _calling(Kind.GRPC_STREAM, "Three").causes == {}
    assert _calling(Kind.GRPC_STREAM, "Three", pieces=3).causes == {}
    assert _calling(Kind.GRPC_STREAM, "Three", pieces=4).causes == {"truncated_body": 40}


def test_grpc_talks_with_a_real_server() -> None:
    report = _calling(Kind.GRPC_BIDI, "Talk", pieces=4)
    assert report.causes == {}
    assert report.latency.p50 is not None and report.latency.p50 >= 0.19
    assert _calling(Kind.GRPC_BIDI, "Short", pieces=4).causes == {"truncated_body": 40}
