"""Requests to real servers on loopback that refuse, ask for patience, hang, and cut connections."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain, repeat
from pathlib import Path

import pytest
from integration.calls import asked
from integration.outside.hosts import Host, answering, hanging, host, http
from integration.outside.prometheus import free_port
from integration.prober.servers import listening

from volery.calls import Calls, NoReply, Reply, Request, Settings
from volery.calls.balance import RETRIES_MOST
from volery.model.accounts import Account

Say = Callable[[asyncio.StreamWriter], Awaitable[None]]
FINE = answering(http("200 OK", b"fine"))
CUT = answering()
HERE = Path(asked.__file__)


def in_turn(*says: Say) -> Say:
    """One after the other, and the last one for ever."""
    left: Iterator[Say] = chain(says, repeat(says[-1]))

    async def say(writer: asyncio.StreamWriter) -> None:
        await next(left)(writer)

    return say


def busy(wait: str = "", status: str = "429 Too Many") -> Say:
    return answering(http(status, b"later", *([f"retry-after: {wait}"] if wait else [])))


TROUBLE = ("cut", "429", "503")
SAYS = {
    "cut": CUT,
    "429": busy(),
    "503": busy(status="503 No"),
    "soon": busy("0"),
    "later": busy("1"),
}


def get(server: Host, tries: int = 4) -> Request:
    return Request("GET", server.url(), 1000, tries=tries)


def post(server: Host, key: str = "") -> Request:
    headers = {"idempotency-key": key} if key else {}
    return Request("POST", server.url(), 1000, body=b"x", headers=headers, tries=4)


def sent(
    say: Say, make: Callable[[Host], Request], seconds: float = 20.0
) -> tuple[Reply | NoReply, Host]:
    async def run() -> tuple[Reply | NoReply, Host]:
        async with host(say) as server:
            try:
                return await Calls(source=random.Random(1)).send(make(server), seconds), server
            except NoReply as why:
                return why, server

    return asyncio.run(run())


@pytest.mark.parametrize("trouble", [*TROUBLE, "soon", "later"])
def test_what_is_safe_is_tried_again(trouble: str) -> None:
    outcome, server = sent(in_turn(SAYS[trouble], SAYS[trouble], FINE), get)
    assert isinstance(outcome, Reply) and outcome.body == b"fine"
    assert len(server.requests) == 3


def test_tries_end_and_the_last_answer_counts() -> None:
    outcome, server = sent(busy(), get)
    assert isinstance(outcome, Reply) and (outcome.status, outcome.note) == (429, "")
    assert len(server.requests) == 4
    outcome, server = sent(CUT, lambda server: get(server, tries=1))
    assert isinstance(outcome, NoReply) and outcome.reached
    assert len(server.requests) == 1


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_post_that_reached_the_server_is_sent_once(trouble: str) -> None:
    _, server = sent(in_turn(SAYS[trouble], FINE), post)
    assert len(server.requests) == 1


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_post_with_a_key_is_sent_again_with_the_same(trouble: str) -> None:
    outcome, server = sent(in_turn(SAYS[trouble], FINE), lambda server: post(server, '"k-1"'))
    assert isinstance(outcome, Reply) and outcome.body == b"fine"
    first, second = server.requests
    assert first == second
    assert 'idempotency-key: "k-1"' in first[0].lower()


def test_a_post_that_never_reached_the_server_is_sent_again() -> None:
    """It comes up while it is tried."""

    async def run() -> None:
        port = free_port()
        request = Request("POST", f"http://127.0.0.1:{port}/", 100, body=b"x", tries=100)
        sending = asyncio.create_task(Calls().send(request, 60.0))
        await asyncio.sleep(0.2)
        answered = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\nx")
            writer.write(http("200 OK"))
            writer.close()
            answered.set()

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        assert (await sending).status == 200
        assert answered.is_set()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_a_hang_takes_its_time_and_no_more() -> None:
    outcome, server = sent(hanging(), get, seconds=3.0)
    assert isinstance(outcome, NoReply) and outcome.late
    assert str(outcome).endswith("no answer within 3s")
    assert len(server.requests) == 1


def test_retry_after_in_seconds_or_as_a_date_holds_for_every_caller(tmp_path: Path) -> None:
    """Another process, and another environment, are kept away by what one was told."""

    async def run(wait: str, folder: Path) -> None:
        async with host(in_turn(busy(wait), FINE)) as server:
            one, other = (Calls(folder, lambda p=p: Settings({}, p)) for p in (True, False))  # type: ignore[misc]
            assert (await one.send(get(server, tries=1), 20.0)).status == 429
            with pytest.raises(
                NoReply, match=r"not asked: 127\.0\.0\.1:\d+ wants to be left alone"
            ):
                await other.send(get(server), 0.5)
            assert len(server.requests) == 1
            began = time.monotonic()
            assert (await other.send(get(server), 60.0)).status == 200
            assert time.monotonic() - began >= 0.5

    asyncio.run(run("6", tmp_path / "seconds"))
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=7), usegmt=True)
    asyncio.run(run(date, tmp_path / "date"))


def test_what_cannot_come_in_time_is_not_waited_for() -> None:
    outcome, server = sent(busy("100"), get, seconds=30.0)
    assert isinstance(outcome, Reply) and outcome.status == 429
    assert outcome.note.startswith("not tried again: 127.0.0.1:")
    assert "wants to be left alone for 1m40s" in outcome.note
    assert len(server.requests) == 1


def test_when_the_budget_is_used_up_nothing_is_tried_again() -> None:
    async def run() -> None:
        async with host(busy()) as server:
            calls = Calls(source=random.Random(1))
            asks = [asyncio.create_task(calls.send(get(server), 60.0)) for _ in range(20)]
            replies = await asyncio.gather(*asks)
            notes = {reply.note for reply in replies} - {""}
            name = f"127.0.0.1:{server.port}"
            assert notes == {f"not tried again: the retry budget of {name} is used up"}
            assert 20 + RETRIES_MOST <= len(server.requests) <= 20 + RETRIES_MOST + 10

    asyncio.run(run())


def test_a_turn_that_cannot_come_in_time_is_refused_at_once() -> None:
    account = Account(hosts=("127.0.0.1",), rate=0.01, burst=2.0, reserve=0.0)

    async def run() -> None:
        async with host(FINE) as server:
            calls = Calls(None, lambda: Settings({"slow": account}))
            for _ in range(2):
                await calls.send(get(server), 60.0)
            with pytest.raises(NoReply, match="not asked: slow has used up its rate limit for 1m"):
                await calls.send(get(server), 60.0)
            assert len(server.requests) == 2

    asyncio.run(run())


def test_many_that_wait_get_their_turn_one_after_the_other() -> None:
    account = Account(hosts=("127.0.0.1",), rate=50.0, burst=2.0, reserve=0.0)

    async def run() -> None:
        async with host(FINE) as server:
            calls = Calls(None, lambda: Settings({"slow": account}))
            began = time.monotonic()
            sends = (calls.send(get(server), 60.0) for _ in range(27))
            assert {reply.status for reply in await asyncio.gather(*sends)} == {200}
            assert time.monotonic() - began >= 0.5

    asyncio.run(run())


def test_processes_share_the_rate_and_tests_leave_the_reserve(tmp_path: Path) -> None:
    """Two test environments and one production, each a process, ask as fast as they are let."""
    times: list[tuple[float, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        times.append((time.monotonic(), "tests" if b"?tests" in head else "production"))
        writer.write(http("200 OK"))
        writer.close()

    async def one(side: str, port: int) -> int:
        words = (str(HERE), str(tmp_path), f"http://127.0.0.1:{port}/", side, "4")
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return int(out)

    async def run() -> None:
        async with listening(serve) as port:
            answered = await asyncio.gather(
                *(one(side, port) for side in ("tests", "tests", "production"))
            )
            assert all(answered)

    asyncio.run(run())
    check_window([at for at, _ in times], asked.RATE, asked.BURST)
    share = 1 - asked.RESERVE
    tests = [at for at, side in times if side == "tests"]
    check_window(tests, asked.RATE * share, asked.BURST * share)


def check_window(times: list[float], rate: float, burst: float) -> None:
    """From first to last no more than the limits let through. A request may be on its way for a
    while on a busy machine, so only the whole is looked at, with a second of slack."""
    assert len(times) <= burst + rate * (times[-1] - times[0] + 1.0)
    assert len(times) > burst
