"""Smoke tests: every instance is asked directly, in the protocol of its service."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Literal

import pytest
from integration.outside.asking import SUBJECT, Asker, answer_to, gate, with_asker
from integration.outside.hosts import answering, hanging, host, http
from integration.outside.prometheus import free_port
from integration.prober.http2_server import Http2Server
from integration.prober.servers import listening

from volery.model.ports import GateCall

Protocol = Literal["http", "http2", "grpc"]


def smoke(*ports: int, protocol: Protocol = "http", timeout: str = "20s") -> GateCall:
    instances = {f"web-{n}": f"127.0.0.1:{port}" for n, port in enumerate(ports, 1)}
    subject = replace(SUBJECT, instances=instances, protocol=protocol)
    return gate(url="/smoke?deep=1", timeout=timeout, subject=subject)


def test_every_instance_is_asked() -> None:
    async def play(ask: Asker) -> None:
        async with (
            host(answering(http("200 OK"))) as one,
            host(answering(http("302 Found", b"", "location: /x"))) as two,
        ):
            answer = await ask.to(smoke(one.port, two.port))
        assert (answer.state, answer.text) == ("yes", "GET /smoke?deep=1: fine on 2 instances")
        for server in (one, two):
            assert [head.split("\r\n")[0] for head, _ in server.requests] == [
                "GET /smoke?deep=1 HTTP/1.1"
            ]

    with_asker(play)


def test_the_first_that_fails_is_named() -> None:
    async def play(ask: Asker) -> None:
        async with (
            host(answering(http("200 OK"))) as fine,
            host(answering(http("503 No"))) as ill,
        ):
            answer = await ask.to(smoke(fine.port, ill.port, free_port()))
        assert (answer.state, answer.text) == ("no", "web-2: GET /smoke?deep=1 answered 503")

    with_asker(play)


def test_one_that_hangs() -> None:
    async def play(ask: Asker) -> None:
        async with host(hanging()) as stuck:
            answer = await ask.to(smoke(stuck.port, timeout="300ms"))
        assert answer.state == "no"
        assert answer.text.startswith("web-1: GET /smoke?deep=1 was not answered within ")

    with_asker(play)


def test_one_that_is_gone() -> None:
    answer = answer_to(smoke(free_port()))
    assert (answer.state, answer.text) == ("no", "web-1: connection refused")


def test_nobody_to_ask() -> None:
    answer = answer_to(smoke())
    assert (answer.state, answer.text) == (
        "broken",
        "no ready instance of web@2 to ask /smoke?deep=1",
    )


@pytest.mark.parametrize("protocol", ["http2", "grpc"])
def test_http2_is_spoken_where_the_service_speaks_it(protocol: Protocol) -> None:
    async def play(ask: Asker) -> None:
        async with listening(Http2Server()) as port, host(answering(http("200 OK"))) as old:
            answer = await ask.to(smoke(port, protocol=protocol))
            assert (answer.state, answer.text) == ("yes", "GET /smoke?deep=1: fine on 1 instance")
            answer = await ask.to(smoke(port, old.port, protocol=protocol, timeout="5s"))
            assert answer.state == "no"
            assert answer.text.startswith("web-2: GET /smoke?deep=1 ")

    with_asker(play)


def test_very_many_instances() -> None:
    async def play(ask: Asker) -> None:
        async with host(answering(http("200 OK"))) as server:
            answer = await ask.to(smoke(*[server.port] * 300))
        assert answer.text == "GET /smoke?deep=1: fine on 300 instances"
        assert len(server.requests) == 300
        await asyncio.sleep(0)

    with_asker(play)
