"""How edges and the gateway bear what fails behind them: retries, breakers, waiting, ejection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from integration.traffic.bench import (
    Load,
    apply,
    client,
    edge,
    eventually,
    free_port,
    gateway,
    is_calm,
    opened,
    run,
    service,
    told,
)
from integration.traffic.stage import refusing
from integration.traffic.upstreams import Web, listening, reset, tcp_echo, websocket_echo
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from volery.model.needs import Need, Retry
from volery.model.ports import Endpoint, GroupTraffic, ServiceTraffic, TrafficConfig
from volery.traffic import routes
from volery.traffic.envoy import EnvoyTraffic
from volery.traffic.proxy import known

REASON = "x-volery-reason"
SLOW_SERVER = """
import http.server, sys, time
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.02)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
server = Server(("127.0.0.1", 0), Slow)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

WORKING_SERVER = """
import asyncio
async def serve_one(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            async with free:
                await asyncio.sleep({work})
            writer.write(b"HTTP/1.1 200 X\\r\\ncontent-length: 2\\r\\n\\r\\nok")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
async def main():
    global free
    free = asyncio.Semaphore({workers})
    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def processes(count: int) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Servers that take 20 ms for a request, each a process, by address."""
    command = [sys.executable, "-c", SLOW_SERVER]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        found = {}
        for process in started:
            assert process.stdout is not None
            found[f"127.0.0.1:{process.stdout.readline().strip()}"] = process
        yield found
    finally:
        for process in started:
            process.kill()
            process.communicate()


@dataclass
class Failing:
    """An HTTP/1.1 server that does as `mode` says: ok, reset, or a status; counts by method."""

    mode: str = "ok"
    seen: Counter[str] = field(default_factory=Counter)
    address: str = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Failing]:
        async with listening(self._serve) as address:
            self.address = address
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.seen[head.split(b" ")[0].decode()] += 1
                if self.mode == "reset":
                    reset(writer)
                    return
                status, *more = ("200" if self.mode == "ok" else self.mode).split(" ", 1)
                extra = "".join(f"{line}\r\n" for line in more)
                writer.write(f"HTTP/1.1 {status} X\r\n{extra}content-length: 2\r\n\r\nok".encode())
                await writer.drain()
        writer.close()


def group(*addresses: str) -> ServiceTraffic:
    endpoints = tuple(Endpoint(f"web-{n}", address) for n, address in enumerate(addresses))
    return ServiceTraffic("http", {"a": GroupTraffic(100, endpoints), "b": GroupTraffic()})


async def numbers(home: Path, pattern: str) -> dict[str, int]:
    """Statistics of Envoy whose names fit, by their last part."""
    text = await told(next(iter(known(home))), f"/stats?format=json&filter={pattern}")
    found = [stat for stat in json.loads(text)["stats"] if "value" in stat]
    return {stat["name"].rpartition(".")[2]: stat["value"] for stat in found}


def test_a_killed_instance_of_three_costs_no_user_anything(tmp_path: Path) -> None:
    """And nobody takes it out of rotation: the data plane is alone."""

    async def test() -> None:
        with processes(3) as servers:
            async with opened(tmp_path) as traffic:
                port = free_port()
                await apply(traffic, TrafficConfig(gateway(port), {"web": group(*servers)}))

                async def is_out() -> bool:
                    found = await numbers(tmp_path, "cluster.web~a.outlier_detection")
                    return found["ejections_active"] == 1

                load = Load(port)
                async with load.going() as outcomes:
                    # Not more under way than a budget of retries may save.
                    await eventually(
                        lambda: outcomes["200"] > 300 and load.under_way < 60, "under load"
                    )
                    next(iter(servers.values())).kill()
                    answered = outcomes["200"]
                    await eventually(lambda: outcomes["200"] > answered + 600, "goes on")
                    await eventually(is_out, "it is out")  # for as long as it is asked in vain
                assert outcomes.keys() == {"200"}

    run(test())


@contextlib.asynccontextmanager
async def one_web(
    home: Path, policy: Need | None = None
) -> AsyncIterator[tuple[EnvoyTraffic, Failing, int, int]]:
    """Ports of the gateway and of an edge to one server."""
    async with Failing().running() as web, opened(home) as traffic:
        inside, port = edge(traffic, "front", "web", policy), free_port()
        services = {"web": group(web.address)}
        await apply(traffic, TrafficConfig(gateway(port), services, (inside,)))
        yield traffic, web, port, inside.port


async def ask(port: int, method: str = "GET", path: str = "/") -> httpx2.Response:
    async with client(port) as http:
        return await http.request(method, path)


def test_only_what_may_be_repeated_is_repeated(tmp_path: Path) -> None:
    async def test() -> None:
        async with one_web(tmp_path) as (_, web, users, inside):
            web.mode = "reset"
            for port in (users, inside):
                for method, tries in (("GET", 3), ("PUT", 3), ("POST", 1), ("PATCH", 1)):
                    web.seen.clear()
                    answer = await ask(port, method)
                    assert (answer.status_code, web.seen[method]) == (503, tries)
                    assert answer.headers[REASON] == "web cut the connection"
                    # A mark for our gateway, which says no more than the truth to users.
                    assert ("x-envoy-ratelimited" in answer.headers) == (port == inside)
            web.mode = "503"
            web.seen.clear()
            answer = await ask(users)
            assert (answer.status_code, web.seen["GET"]) == (503, 1)
            assert REASON not in answer.headers, "an answer is the service's own"

    run(test())


@pytest.mark.parametrize(("timeout", "asked"), [(None, 9), (0.5, 1)])
def test_late_tries_multiply_only_where_no_time_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float | None, asked: int
) -> None:
    monkeypatch.setattr(routes, "EDGE_SECONDS", 0.3)
    below = 0

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = (await ask(below, path="/slow")).status_code
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    async def test() -> None:
        nonlocal below
        need = Need(timeout=timeout)
        async with (
            Web("one").running() as hangs,
            listening(between) as address,
            opened(tmp_path) as traffic,
        ):
            outer, inner = edge(traffic, "front", "mid", need), edge(traffic, "mid", "web", need)
            below = inner.port
            services = {"mid": group(address), "web": service(a=(100, hangs.address))}
            await apply(traffic, TrafficConfig(None, services, (outer, inner)))
            assert (await ask(outer.port)).status_code == 504
            await eventually(lambda: hangs.requests >= asked, "every try has arrived")
            assert hangs.requests == asked

    run(test())


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        policy = Need(retry=Retry(attempts=2, on=("gateway-error",)))
        async with one_web(tmp_path, policy) as (_, web, _users, inside):
            web.mode = "503 retry-after: 1"
            begun = time.monotonic()
            answer = await ask(inside)
            assert (answer.status_code, web.seen["GET"]) == (503, 2)
            assert time.monotonic() - begun >= 1.0

    run(test())


@pytest.mark.parametrize(("instances", "ejected"), [(1, 0), (2, 1), (3, 1), (4, 2)])
def test_at_least_half_of_the_instances_stay(tmp_path: Path, instances: int, ejected: int) -> None:
    async def test() -> None:
        with contextlib.ExitStack() as stack:
            addresses = [stack.enter_context(refusing()) for _ in range(instances)]
            async with opened(tmp_path) as traffic:
                port = free_port()
                await apply(traffic, TrafficConfig(gateway(port), {"web": group(*addresses)}))
                asked = 0

                async def as_many_are_out() -> bool:
                    """An ejection ends by itself: on a busy machine before the last request."""
                    nonlocal asked
                    asked += 1
                    assert (await ask(port)).status_code == 503
                    found = await numbers(tmp_path, "cluster.web~a.outlier_detection")
                    assert found["ejections_active"] <= ejected
                    return asked >= 40 and found["ejections_active"] == ejected

                await eventually(as_many_are_out, f"{ejected} of {instances} are out")

    run(test())


def test_answers_that_are_cut_eject_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with one_web(tmp_path) as (_, web, users, _inside):
            web.mode = "reset"
            for _ in range(10):
                await ask(users)
            web.mode = "ok"
            assert (await ask(users)).status_code == 200

    run(test())


def test_answers_eject_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Failing("500").running() as bad,
            Failing("503").running() as worse,
            opened(tmp_path) as traffic,
        ):
            port = free_port()
            web = group(bad.address, worse.address)
            await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
            for _ in range(60):
                await ask(port)
            found = await numbers(tmp_path, "cluster.web~a.outlier_detection")
            assert found["ejections_active"] == found["ejections_enforced_total"] == 0

    run(test())


async def refused(http: httpx2.AsyncClient) -> bool:
    """Whether a breaker answers in the place of the service."""
    answer = await http.get("/")
    return "fails most requests" in answer.headers.get(REASON, "")


@pytest.mark.parametrize("who", ["user", "caller"])
def test_a_breaker_opens_says_why_and_closes_by_itself(tmp_path: Path, who: str) -> None:
    async def test() -> None:
        async with one_web(tmp_path) as (_, web, users, inside):
            port = users if who == "user" else inside
            web.mode = "503"
            async with client(port) as http:
                await eventually(partial(refused, http), "the breaker opens")
                web.seen.clear()
                answers = [await http.get("/") for _ in range(200)]
                assert {answer.status_code for answer in answers} == {503}
                assert web.seen["GET"] < 60
                told = [answer for answer in answers if REASON in answer.headers]
                assert told[0].headers[REASON].startswith("web fails most requests")
                assert told[0].headers["retry-after"] == "1"
                web.mode = "ok"

                async def closed() -> bool:
                    found = [(await http.get("/")).status_code for _ in range(20)]
                    return set(found) == {200}

                await eventually(closed, "the breaker closes")

    run(test())


@pytest.mark.parametrize("who", ["user", "caller"])
def test_a_breaker_is_left_out_until_something_fails(tmp_path: Path, who: str) -> None:
    async def test() -> None:
        async with one_web(tmp_path) as (_, web, users, inside):
            await eventually(lambda: is_calm(tmp_path), "calm")
            async with client(users if who == "user" else inside) as http:
                assert {(await http.get("/")).status_code for _ in range(50)} == {200}
                web.mode = "503"
                await eventually(partial(refused, http), "the breaker is put in and opens")
                assert not await is_calm(tmp_path)
                web.mode = "ok"

                async def over() -> bool:
                    return (await http.get("/")).status_code == 200 and await is_calm(tmp_path)

                await eventually(over, "calm again")

    run(test())


def test_without_a_control_plane_every_breaker_is_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with one_web(tmp_path) as (traffic, web, users, _inside):
            await eventually(lambda: is_calm(tmp_path), "calm")
            await traffic.close()

            async def lapsed() -> bool:
                return not await is_calm(tmp_path)

            await eventually(lapsed, "what was lent is over")
            web.mode = "503"
            async with client(users) as http:
                await eventually(partial(refused, http), "the breaker opens")

    run(test())


@contextlib.contextmanager
def working(workers: int, work: float) -> Iterator[str]:
    """A server with a few workers and a queue without end, which works on what nobody waits for any
    more, too; a process, so that who calls it does not slow it down."""
    script = WORKING_SERVER.format(workers=workers, work=work)
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.kill()
        server.communicate()


@contextlib.asynccontextmanager
async def called(port: int, callers: int) -> AsyncIterator[Counter[str]]:
    """So many callers, each of which calls again once it was answered: what they got."""
    found: Counter[str] = Counter()

    async def call() -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                status, *headers = (await reader.read()).decode().split("\r\n")
            finally:
                writer.close()
            told = [line for line in headers if line.startswith(f"{REASON}: ")]
            found[told[0].partition(": ")[2] if told else status.split(" ")[1]] += 1
            await asyncio.sleep(0.25 if told else 0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call()) for _ in range(callers)]
        yield found
        for task in tasks:
            task.cancel()


def test_who_answers_in_less_than_a_third_of_the_time_is_not_asked_for_too_much(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        with working(1000, 0.55) as address:
            async with opened(tmp_path) as traffic:
                inside = edge(traffic, "front", "web", Need(timeout=2.0))
                await apply(traffic, TrafficConfig(None, {"web": group(address)}, (inside,)))
                async with called(inside.port, 40) as answers:

                    async def has_room() -> bool:
                        limits = await numbers(tmp_path, "gradient_controller.concurrency_limit")
                        return limits["concurrency_limit"] > 300

                    await eventually(has_room, "many more may be under way")
                    assert set(answers) == {"200"}

    run(test())


def test_of_too_many_calls_most_that_are_let_through_are_answered(tmp_path: Path) -> None:
    """80 callers of one that does four at a time in 40 ms: if all went, all were too late."""

    async def test() -> None:
        with working(4, 0.04) as address:
            async with opened(tmp_path) as traffic:
                inside = edge(traffic, "front", "web", Need(timeout=0.5))
                await apply(traffic, TrafficConfig(None, {"web": group(address)}, (inside,)))
                async with called(inside.port, 80) as answers:

                    def mostly_answered() -> bool:
                        good, late = answers["200"], answers["web did not answer in time"]
                        if good + late < 100:
                            return False
                        refused = answers["web is asked for more than it can answer in time"]
                        answers.clear()
                        return refused > 0 and good > late

                    await eventually(mostly_answered, "most are answered in time")

    run(test())


def test_a_service_that_answers_500_is_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with one_web(tmp_path) as (_, web, users, _inside):
            web.mode = "500"
            for _ in range(60):
                assert (await ask(users)).status_code == 500
            assert web.seen["GET"] == 60

    run(test())


@pytest.mark.parametrize(("size", "status"), [(6_000_000, "200"), (12_000_000, "503")])
def test_what_is_not_too_large_waits_for_its_need(tmp_path: Path, size: int, status: str) -> None:
    async def test() -> None:
        waits = Need(when_unavailable="keep_trying")
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            patient = edge(traffic, "patient", "web", waits)
            away = TrafficConfig(None, {"web": service()}, (patient,))
            await apply(traffic, away)
            reader, writer = await asyncio.open_connection("127.0.0.1", patient.port)
            head = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
            writer.write(f"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode())
            writer.write(bytes(size))

            async def has_come() -> bool:
                found = await numbers(tmp_path, "http.patient.*downstream_cx_rx_bytes_total")
                return head.done() or found["downstream_cx_rx_bytes_total"] > size

            await eventually(has_come, "all of it has come, or an answer")
            here = TrafficConfig(None, {"web": service(a=(100, one.address))}, (patient,))
            await apply(traffic, here)
            status_line, *lines = (await head).decode().split("\r\n")
            writer.transport.abort()
            assert status_line.split(" ")[1] == status
            if status == "503":  # for another reason, if a try was just under way
                assert any(line.startswith(f"{REASON}: web cannot be reached") for line in lines)

    run(test())


@pytest.mark.parametrize("others_wait", [False, True])
def test_no_instance_is_told_whoever_else_waits(tmp_path: Path, others_wait: bool) -> None:
    async def test() -> None:
        async with opened(tmp_path) as traffic:
            fast, port = edge(traffic, "fast", "web"), free_port()
            waits = edge(traffic, "patient", "web", Need(when_unavailable="keep_trying"))
            edges = (fast, waits) if others_wait else (fast,)
            await apply(traffic, TrafficConfig(gateway(port), {"web": service()}, edges))
            for asked in (fast.port, port):
                answer = await ask(asked)
                assert answer.status_code == 503
                assert answer.headers[REASON] == "web has no instance that takes requests"
                assert answer.headers["retry-after"] == "1"
                assert ("x-envoy-ratelimited" in answer.headers) == (asked == fast.port)

    run(test())


def test_no_instance_fail_fast_answers_at_once_and_keep_trying_waits(tmp_path: Path) -> None:
    async def test() -> None:
        waits = Need(when_unavailable="keep_trying")
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            fast, patient = edge(traffic, "fast", "web"), edge(traffic, "patient", "web", waits)
            away = TrafficConfig(None, {"web": service()}, (fast, patient))
            await apply(traffic, away)
            calls = [asyncio.create_task(ask(patient.port, "POST")) for _ in range(20)]
            answer = await ask(fast.port)
            assert answer.status_code == 503
            assert answer.headers[REASON].startswith("web ")
            await asyncio.sleep(0)
            assert not any(call.done() for call in calls)
            here = TrafficConfig(None, {"web": service(a=(100, one.address))}, (fast, patient))
            await apply(traffic, here)
            answers = [(await call).status_code for call in calls]
            assert answers == [200] * 20
            assert one.requests == 20, "each call arrived once"
            assert (await ask(fast.port)).status_code == 200

    run(test())


@pytest.mark.parametrize("timeout", [0.5, None])
def test_keep_trying_ends_with_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    monkeypatch.setattr(routes, "KEEP_TRYING_SECONDS", 0.5)

    async def test() -> None:
        waits = Need(when_unavailable="keep_trying", timeout=timeout)
        async with opened(tmp_path) as traffic:
            patient = edge(traffic, "patient", "web", waits)
            await apply(traffic, TrafficConfig(None, {"web": service()}, (patient,)))
            begun = time.monotonic()
            answer = await ask(patient.port)
            assert time.monotonic() - begun >= 0.5
            assert (answer.status_code, answer.headers[REASON]) == (
                504,
                "web did not answer in time",
            )

    run(test())


def test_an_answer_may_last_longer_than_calls_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "KEEP_TRYING_SECONDS", 1.0)

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 20\r\n\r\n")
        for _ in range(20):
            await asyncio.sleep(0.1)
            writer.write(b"x")
        writer.close()

    async def test() -> None:
        waits = Need(when_unavailable="keep_trying")
        async with listening(slowly) as address, opened(tmp_path) as traffic:
            patient = edge(traffic, "patient", "web", waits)
            await apply(traffic, TrafficConfig(None, {"web": group(address)}, (patient,)))
            assert (await ask(patient.port)).content == b"x" * 20

    run(test())


def test_a_websocket_waits_no_longer_than_a_call_and_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "KEEP_TRYING_SECONDS", 0.5)

    async def test() -> None:
        waits = Need(when_unavailable="keep_trying")
        async with websocket_echo() as address, opened(tmp_path) as traffic:
            patient = edge(traffic, "patient", "web", waits)
            url = f"ws://127.0.0.1:{patient.port}/"
            await apply(traffic, TrafficConfig(None, {"web": service()}, (patient,)))
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, open_timeout=30, proxy=None)
            assert refused.value.response.status_code == 504
            here = TrafficConfig(None, {"web": service(a=(100, address))}, (patient,))
            await apply(traffic, here)
            async with connect(url, proxy=None) as socket:
                await asyncio.sleep(1.0)
                await socket.send("still there")
                assert await socket.recv() == "still there"

    run(test())


def test_not_more_wait_than_may(tmp_path: Path) -> None:
    async def test() -> None:
        waits = Need(when_unavailable="keep_trying", timeout=5.0)
        async with opened(tmp_path) as traffic:
            patient = edge(traffic, "patient", "web", waits)
            await apply(traffic, TrafficConfig(None, {"web": service()}, (patient,)))
            unlimited = httpx2.Limits(max_connections=None)
            async with client(patient.port, limits=unlimited) as http:
                answers = await asyncio.gather(*(http.get("/") for _ in range(320)))
            statuses = Counter(answer.status_code for answer in answers)
            assert statuses[503] > 0, "no room left"
            assert statuses[504] > 200, "waited"

    run(test())


def test_tcp_waits_for_its_need_as_well(tmp_path: Path) -> None:
    async def test() -> None:
        waits = Need(when_unavailable="keep_trying")
        async with tcp_echo("db") as address, opened(tmp_path) as traffic:
            fast, patient = edge(traffic, "fast", "db"), edge(traffic, "patient", "db", waits)

            def wish(**where: Any) -> TrafficConfig:
                return TrafficConfig(None, {"db": service("tcp", **where)}, (fast, patient))

            await apply(traffic, wish())
            hasty, mine = await asyncio.open_connection("127.0.0.1", fast.port)
            assert await hasty.read() == b""
            mine.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", patient.port)
            greeting = asyncio.create_task(reader.readline())
            await apply(traffic, wish(a=(100, address)))
            assert await greeting == b"db\n"
            writer.close()

    run(test())
