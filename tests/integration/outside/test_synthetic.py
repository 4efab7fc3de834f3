"""Synthetic requests as a server sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from email.parser import Parser

from integration.outside.asking import PATIENCE_SECONDS, Asker, synthetic, with_asker
from integration.outside.hosts import Host, answering, host, http, read_request
from integration.outside.prometheus import free_port
from integration.prober.servers import listening

from volery.model.deploy import Synthetic
from volery.model.ports import SyntheticCall


async def seen(server: Host, count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(server.requests) < count:
            await asyncio.sleep(0.01)


def test_what_a_server_sees() -> None:
    async def play(ask: Asker) -> None:
        async with host(answering(http("200 OK", b"fine"))) as server:
            call = synthetic(
                server.port,
                {"x-volery-group": "canary"},
                path="/buy?really=no",
                method="POST",
                headers={"User-Agent": "mine", "X-Test": "1", "X-Volery-Group": "stable"},
                body='{"a": {n}}',
            )
            ask.wish(s=call)
            answer = await ask.until("s", lambda answer: (answer.value or 0) >= 5)
        assert answer.state == "yes"
        assert " sent, 0 failed" in answer.text, answer.text
        head, body = server.requests[3]
        line, _, rest = head.partition("\r\n")
        assert line == "POST /buy?really=no HTTP/1.1"
        headers = {name.lower(): value for name, value in Parser().parsestr(rest).items()}
        assert headers["user-agent"] == "volery-synthetic"
        assert headers["x-volery-group"] == "canary"
        assert headers["x-test"] == "1"
        assert body == b'{"a": 3}'

    with_asker(play)


def test_no_new_ones_once_they_are_not_wanted_and_none_is_cut_off() -> None:
    async def play(ask: Asker) -> None:
        began, ended = 0, 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal began, ended
            while True:
                await read_request(reader)
                began += 1
                await asyncio.sleep(0.5)
                writer.write(http("200 OK"))
                await writer.drain()
                ended += 1

        async with listening(serve) as port:
            ask.wish(s=synthetic(port, rate=40.0))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while began < 10:
                    await asyncio.sleep(0.01)
                ask.wish()
                assert ask.world.observe() == {}
                await ask.world.close()
                last = began
                await asyncio.sleep(0.3)
            assert began == ended == last

    with_asker(play)


def test_a_server_that_hangs_is_sent_no_more_than_so_many() -> None:
    async def play(ask: Asker) -> None:
        open_now = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now
            open_now += 1
            await reader.read()
            await reader.read()

        async with listening(serve) as port:
            ask.wish(s=synthetic(port, rate=100.0))
            answer = await ask.until("s", lambda answer: "held back" in answer.text)
            assert open_now <= 100
            assert answer.state == "broken"
            assert answer.text.startswith("0 sent, 0 failed; ")
            assert answer.text.endswith(" held back: 100 are in flight")

    with_asker(play)


def failing(say: Callable[[Host], SyntheticCall], status: str) -> tuple[str, str]:
    found: list[tuple[str, str]] = []

    async def play(ask: Asker) -> None:
        async with host(answering(http(status))) as server:
            ask.wish(s=say(server))
            answer = await ask.until("s", lambda answer: (answer.value or 0) >= 2)
            found.append((answer.state, answer.text))

    with_asker(play)
    return found[0]


def test_all_fail() -> None:
    state, text = failing(lambda server: synthetic(server.port), "503 No")
    assert (state, text.partition(", most by ")[2]) == ("no", "status_503")
    state, text = failing(lambda _: synthetic(free_port()), "200 OK")
    assert (state, text.partition(", most by ")[2]) == ("broken", "refused")


def test_a_changed_call_goes_on_counting() -> None:
    async def play(ask: Asker) -> None:
        async with (
            host(answering(http("200 OK"))) as one,
            host(answering(http("200 OK"))) as two,
        ):
            call = synthetic(one.port)
            ask.wish(s=call)
            before = await ask.until("s", lambda answer: (answer.value or 0) >= 5)
            ask.wish(s=replace(call, base_url=two.url()))
            await seen(two, 5)
            after = await ask.until("s", lambda a: (a.value or 0) >= (before.value or 0) + 5)
            assert after.state == "yes"
            count = len(one.requests)
            await seen(two, 20)
            assert len(one.requests) == count

    with_asker(play)


def test_it_never_leaves_this_machine() -> None:
    async def play(ask: Asker) -> None:
        ask.wish(s=SyntheticCall(Synthetic(path="/"), "http://192.0.2.1:80", {}))
        answer = await ask.answer("s")
        assert answer.state == "broken"
        assert "192.0.2.1" in answer.text

    with_asker(play)
