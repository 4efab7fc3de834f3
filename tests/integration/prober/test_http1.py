"""Every way an HTTP/1.1 server can lose a request is counted once, with its cause."""

from __future__ import annotations

import asyncio
import time

import pytest
from integration.prober.servers import (
    OK,
    Http1Server,
    closed_port,
    plan_for,
    probed,
    reset,
)

from volery.prober import Kind, ProbeReport, probe

BOTH = pytest.mark.parametrize("kind", [Kind.HTTP1, Kind.HTTP1_FRESH])


@BOTH
@pytest.mark.parametrize(
    ("trick", "cause"),
    [
        ("503", "status_503"),
        ("close", "closed_before_answer"),
        ("reset", "reset"),
        ("half head", "truncated_head"),
        ("short body", "truncated_body"),
        ("reset in body", "reset"),
        ("no last chunk", "truncated_body"),
        ("half chunk", "truncated_body"),
        ("bad chunk", "malformed"),
        ("garbage", "malformed"),
    ],
)
def test_each_lost_request_is_counted(kind: Kind, trick: str, cause: str) -> None:
    server = Http1Server(trick)
    report = probed(kind, server)
    assert report.causes == {cause: 10} == {cause: server.did[trick]}
    assert report.ok == 30 == report.versions["demo@1"]
    assert [sample.cause for sample in report.samples] == [cause] * 3


@BOTH
@pytest.mark.parametrize(
    "trick",
    [
        "none",
        "connection: close",
        "close when idle",
        "reset when idle",
        "says 408 when idle",
        "no framing",
        "http/1.0",
        "interim",
        "no content",
        "chunked",
    ],
)
def test_a_good_server_loses_nothing(kind: Kind, trick: str) -> None:
    server = Http1Server(trick)
    report = probed(kind, server)
    assert (report.causes, report.ok, server.did.total()) == ({}, 40, 40)


def test_connections_are_kept_and_retired_in_order() -> None:
    kept, closing, fresh = (
        Http1Server("none"),
        Http1Server("connection: close"),
        Http1Server("none"),
    )
    assert probed(Kind.HTTP1, kept).streams[0].retired == 0
    assert kept.connections < 20
    assert probed(Kind.HTTP1, closing).streams[0].retired == 10
    probed(Kind.HTTP1_FRESH, fresh)
    assert fresh.connections == 40


def test_connections_take_turns() -> None:
    server = Http1Server("none")
    probed(Kind.HTTP1, server, connections=8)
    assert 8 <= server.connections < 30


@pytest.mark.parametrize("kind", [*Kind])
def test_a_refused_port_is_counted_for_every_kind(kind: Kind) -> None:
    with closed_port() as port:
        report = asyncio.run(probe(plan_for(kind, port, span=0.1)))
    assert report.causes == {"refused": 40}


def test_a_slow_answer_is_a_timeout() -> None:
    server = Http1Server("silence")
    report = probed(Kind.HTTP1, server, timeout=5.0)
    assert report.causes == {"timeout": 10}
    assert "5 s" in report.samples[0].detail


def test_a_503_says_what_the_server_said() -> None:
    assert probed(Kind.HTTP1, Http1Server("503")).samples[0].detail == "no upstream"


def test_the_payload_arrives_and_its_echo_is_checked() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(100):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"PUT /x HTTP/1.1\r\nhost: ")
            assert b"\r\nx-mine: 1\r\n" in head
            body = await reader.readexactly(int(head.rpartition(b"content-length: ")[2]))
            body = body if number % 4 else b"other"
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    options = {"payload": b"n={n}", "echo": True, "method": "PUT", "path": "/x"}
    report = probed(Kind.HTTP1, echo, headers=(("x-mine", "1"),), **options)
    assert set(report.causes) == {"bad_echo"}
    assert report.causes["bad_echo"] >= 10


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A server that stalls once delays all that were due meanwhile, and the report shows it."""

    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await gate.wait()
            writer.write(OK)

    gate = asyncio.Event()

    async def run() -> ProbeReport:
        server = await asyncio.start_server(stalling, "127.0.0.1", 0)
        probing = asyncio.create_task(probe(plan_for(Kind.HTTP1, _port(server))))
        begin = time.monotonic()
        while time.monotonic() < begin + 0.5:
            await asyncio.sleep(0.01)
        gate.set()
        report = await probing
        server.close()
        return report

    report = asyncio.run(run())
    latency = report.latency
    assert report.ok == 40
    assert latency.max is not None and latency.max >= 0.45
    assert latency.p50 is not None and 0.2 <= latency.p50 < latency.max


def test_saturation_of_the_prober_is_a_failure_too() -> None:
    report = probed(Kind.HTTP1, Http1Server("silence", every=1), max_in_flight=5, timeout=5.0)
    assert report.causes == {"client_saturated": 35, "timeout": 5}


def test_an_upload_in_flight_that_breaks_is_lost() -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"\r\n")
        reset(writer)

    report = probed(Kind.UPLOAD, breaking, span=0.2)
    assert report.causes == {"reset": 40}


def test_uploads_arrive_whole_and_trickle() -> None:
    server = Http1Server("none")
    report = probed(Kind.UPLOAD, server, span=0.3, pieces=3)
    assert (report.lost, server.did.total()) == (0, 40)
    assert report.latency.p50 is not None and report.latency.p50 >= 0.29


def test_an_early_answer_to_an_upload_counts_as_it_is() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
        await reader.read()

    report = probed(Kind.UPLOAD, early, span=5.0)
    assert report.causes == {"status_413": 40}
    assert report.seconds < 4


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_downloads_are_read_slowly_and_checked_to_the_end(framing: str) -> None:
    count = 0

    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            await reader.readuntil(b"\r\n\r\n")
            count += 1
            size = 300_000 if count % 4 else 299_000
            piece = b"x" * (size // 10)
            if framing == "length":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n")
                writer.write(piece * 10)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for _ in range(10):
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                writer.write(b"0\r\n\r\n" if size == 300_000 else b"")
            await writer.drain()
            if size != 300_000:
                return

    report = probed(Kind.DOWNLOAD, large, span=0.2, pieces=5)
    assert report.causes == {"truncated_body": 10}
    assert report.latency.p50 is not None and report.latency.p50 >= 0.19


def test_stopping_waits_for_what_is_in_flight() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            started.set()
            await go_on.wait()
            writer.write(OK)

    started, go_on = asyncio.Event(), asyncio.Event()

    async def run() -> ProbeReport:
        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        stop = asyncio.Event()
        probing = asyncio.create_task(probe(plan_for(Kind.HTTP1, _port(server)), stop))
        await started.wait()
        stop.set()
        await asyncio.sleep(0)
        assert not probing.done()
        go_on.set()
        report = await probing
        server.close()
        return report

    report = asyncio.run(run())
    assert (report.lost, report.sent == report.ok) == (0, True)
    assert 1 <= report.sent < 40


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])
