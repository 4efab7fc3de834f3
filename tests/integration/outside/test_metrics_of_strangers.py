"""Custom metrics from sources that lie, hang, flood or refuse; and from commands."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from integration.outside.asking import Asker, answer_to, asker, metric, with_asker
from integration.outside.hosts import HEAD, Host, answering, flooding, hanging, host, http
from integration.outside.prometheus import free_port

from volery.model.ports import Answer

Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


def queried(say: Say, path: str = "", **fields: Any) -> tuple[Answer, Host]:
    async def run() -> tuple[Answer, Host]:
        async with host(say) as server, asker() as ask:
            fields.setdefault("query", "up")
            return await ask.to(metric(prometheus=server.url(path), **fields)), server

    return asyncio.run(run())


def vector(*values: Any) -> bytes:
    series = [{"metric": {"n": str(n)}, "value": [1.5, v]} for n, v in enumerate(values)]
    data = {"resultType": "vector", "result": series}
    return json.dumps({"status": "success", "data": data}).encode()


@pytest.mark.parametrize("path", ["", "/", "/some/path", "/some/path/"])
def test_what_it_is_asked(path: str) -> None:
    query = 'sum(rate(x{service="{service}",r="{release}",t=~"{track}",a="{b}"}[1m])) by (d)'
    answer, server = queried(answering(http("200 OK", vector("0.5"))), path, query=query)
    assert (answer.state, answer.value) == ("yes", 0.5)
    ((head, body),) = server.requests
    method, target, _ = head.split("\r\n")[0].split()
    assert (method, body) == ("GET", b"")
    assert urlsplit(target).path == path.rstrip("/") + "/api/v1/query"
    assert parse_qs(urlsplit(target).query) == {
        "query": ['sum(rate(x{service="web",r="web@2",t=~"canary",a="{b}"}[1m])) by (d)']
    }


SAYS = {
    "strings": (answering(http("200 OK", vector("many"))), 'no number: "many"'),
    "nothing": (answering(http("200 OK", vector())), "no data: no series matches the query"),
    "a crowd": (answering(http("200 OK", vector(*["1"] * 9000))), "9,000 series: make it one"),
    "too much": (flooding(HEAD, b"[" * 65536), "more than 1024 KiB of answer"),
    "deep": (answering(http("200 OK", b"[" * 900_000)), "no JSON of a Prometheus API"),
    "a page": (answering(http("200 OK", b"<html>hello")), "no JSON of a Prometheus API"),
    "not found": (answering(http("404 No", b"404 page\n")), "answered 404: 404 page"),
    "moved": (answering(http("302 Go", b"", "location: http://127.0.0.1:1/")), "answered 302"),
    "overloaded": (answering(http("503 No", b"", "retry-after: 7")), "asks to stay away for 7 s"),
    "packed": (answering(http("200 OK", b"\x1f\x8b", "content-encoding: gzip")), "no JSON"),
    "cut off": (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}"), "peer closed"),
    "silence": (hanging(), "no answer within 300ms"),
    "half": (hanging(HEAD, b'{"status":"succ'), "no answer within 300ms"),
}


@pytest.mark.parametrize(("say", "says"), list(SAYS.values()), ids=list(SAYS))
def test_what_is_no_number_is_missing_data(say: Say, says: str) -> None:
    answer, _ = queried(say, timeout="300ms" if "300ms" in says else "20s")
    assert (answer.state, answer.value) == ("broken", None)
    assert says in answer.text
    assert answer.text.startswith("http://127.0.0.1:")


def test_it_comes_back_when_it_is_told_to() -> None:
    """429 with Retry-After: not asked before that, and then again."""

    async def play(ask: Asker) -> None:
        times: list[float] = []

        async def say(writer: asyncio.StreamWriter) -> None:
            times.append(time.monotonic())
            busy = http("429 Too Many", b"", "retry-after: 1")
            await answering(busy if len(times) == 1 else http("200 OK", vector("3")))(writer)

        async with host(say) as server:
            call = metric(prometheus=server.url(), query="up", every="100ms", timeout="20s")
            ask.wish(m=call)
            answer = await ask.until("m", lambda answer: answer.state == "broken")
            assert "answered 429: asks to stay away for 1 s" in answer.text
            answer = await ask.until("m", lambda answer: answer.state == "yes")
            assert answer.value == 3
        assert times[1] - times[0] >= 1

    with_asker(play)


def test_one_that_is_down_is_asked_again_and_again() -> None:
    async def play(ask: Asker) -> None:
        port = free_port()
        ask.wish(m=metric(prometheus=f"http://127.0.0.1:{port}", query="up", every="100ms"))
        at = 0.0
        for _ in range(3):
            answer = await ask.until("m", lambda answer, seen=at: answer.at > seen)  # type: ignore[misc]
            assert answer.state == "broken"
            assert answer.text.endswith("/api/v1/query: connection refused")
            at = answer.at

    with_asker(play)


def test_never_two_at_once_of_one_key() -> None:
    async def play(ask: Asker) -> None:
        going, most, count = 0, 0, 0

        async def say(writer: asyncio.StreamWriter) -> None:
            nonlocal going, most, count
            going, count = going + 1, count + 1
            most = max(most, going)
            await asyncio.sleep(0.3)
            going -= 1
            await answering(http("200 OK", vector("1")))(writer)

        async with host(say) as server:
            call = metric(prometheus=server.url(), query="up", every="100ms", timeout="20s")
            ask.wish(m=call)
            async with asyncio.timeout(60):
                while count < 4:
                    ask.wish(m=call)
                    await asyncio.sleep(0.01)
        assert most == 1

    with_asker(play)


def test_the_last_answer_stays_while_the_next_is_awaited() -> None:
    async def play(ask: Asker) -> None:
        asked = asyncio.Event()

        async def say(writer: asyncio.StreamWriter) -> None:
            if ask.state("m") == "waiting":
                await answering(http("200 OK", vector("1")))(writer)
            else:
                asked.set()
                await asyncio.sleep(60)

        async with host(say) as server:
            call = metric(prometheus=server.url(), query="up", every="100ms", timeout="1h")
            ask.wish(m=call)
            async with asyncio.timeout(60):
                await asked.wait()
            assert ask.world.observe()["m"].value == 1

    with_asker(play)


# --- commands -------------------------------------------------------------------------------------


def printed(folder: Path, script: str, **fields: Any) -> Answer:
    return answer_to(metric(folder, command=["sh", "-c", script], **fields))


@pytest.mark.parametrize(
    ("script", "value"),
    [
        ("echo 42", 42.0),
        ("printf ' 0.5e1 \\n\\n'", 5.0),
        ("echo -3; echo a warning >&2", -3.0),
        ("test {track} = canary && test {service}-{release} = web-web@2 && echo 1", 1.0),
        ("test $VOLERY_TRACK = canary && track=7 && echo ${track}", 7.0),
        ("echo '{\"a\": 5}' | tr -dc 0-9", 5.0),
    ],
)
def test_a_command_prints_one_number(tmp_path: Path, script: str, value: float) -> None:
    answer = printed(tmp_path, script)
    assert (answer.state, answer.value) == ("yes", value)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("true", 'no number: ""'),
        ("echo nan", 'no number: "nan"'),
        ("echo inf", 'no number: "inf"'),
        ("echo 1e999", 'no number: "1e999"'),
        ("echo 1_000", 'no number: "1_000"'),
        ("echo 5%", 'no number: "5%"'),
        ("echo 1; echo 2", 'no number: "1 2"'),
        ("echo 1; echo cannot ask >&2; exit 4", ": cannot ask"),
        ("yes", "timed out after"),
        ("head -c 300000 /dev/zero | tr '\\0' 7", "no number: "),
        ("printf '\\033]0;hi\\007'", 'no number: "\ufffd]0;hi\ufffd"'),
    ],
)
def test_a_command_that_prints_none(tmp_path: Path, script: str, says: str) -> None:
    answer = printed(tmp_path, script, timeout="1s" if script == "yes" else "20s")
    assert (answer.state, answer.value) == ("broken", None)
    assert says in answer.text
    assert len(answer.text) <= 300


def test_a_secret_in_the_output_is_masked(tmp_path: Path) -> None:
    call = metric(tmp_path, command=["sh", "-c", "echo token is s3cr3t-word"])
    answer = answer_to(call, hidden=lambda: ["s3cr3t-word"])
    assert answer.text == 'no number: "token is ***"'
