"""What is counted of real requests through a real Envoy, against upstreams that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc.aio
import httpx2
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from integration.traffic.bench import (
    apply,
    client,
    edge,
    eventually,
    free_port,
    gateway,
    opened,
    run,
    service,
)
from integration.traffic.upstreams import (
    ECHO,
    STREAM,
    Unruly,
    Web,
    grpc_unruly,
    tcp_unruly,
    websocket_echo,
)
from websockets.asyncio.client import connect

from volery.decide.evidence import delta
from volery.model.evidence import Counters, ProxySample, Sample, floor_ms
from volery.model.needs import Need, Retry
from volery.model.ports import Edge, Endpoint, GroupTraffic, ServiceTraffic, Split, TrafficConfig
from volery.traffic.envoy import EnvoyTraffic

EDGE, GROUP = "front~a~web", "web~a"


async def fresh(traffic: EnvoyTraffic) -> Sample:
    """A sample that was asked for from now on, histograms included."""
    begun = time.monotonic()
    await eventually(lambda: traffic.sample().at > begun + 1.0, "a fresh sample")
    # It may have been asked for earlier, and have what a silent one said last.
    old = traffic.sample().proxies
    await eventually(
        lambda: all(seen is not old.get(name) for name, seen in traffic.sample().proxies.items()),
        "every proxy has answered since",
    )
    return traffic.sample()


async def counted(traffic: EnvoyTraffic, work: Callable[[], Awaitable[object]]) -> ProxySample:
    """What is counted of some work."""
    before = await fresh(traffic)
    await work()
    return delta(before, await fresh(traffic))


def numbers(found: Counters | None) -> tuple[int, int]:
    return (found.requests, found.failures) if found else (0, 0)


@contextlib.asynccontextmanager
async def unruly_web(
    home: Path, policy: Need, drain_seconds: float = 1.0
) -> AsyncIterator[tuple[EnvoyTraffic, Edge, Unruly]]:
    async with Unruly().running() as upstream, opened(home, drain_seconds) as traffic:
        inside = edge(traffic, "front", "web", policy)
        services = {"web": service(a=(100, upstream.address))}
        await apply(traffic, TrafficConfig(None, services, (inside,)))
        traffic.attend(frozenset({"web"}))
        yield traffic, inside, upstream


def test_what_a_failed_request_is(tmp_path: Path) -> None:
    cases = {
        "/fine": (1, 0),
        "/status/404": (1, 0),
        "/status/500": (1, 1),
        "/status/503": (1, 1),
        "/reset": (1, 1),
        "/close": (1, 1),
        "/cut": (1, 1),
        "/hang": (1, 1),  # the edge's time limit
    }

    async def test() -> None:
        async with unruly_web(tmp_path, Need(timeout=5)) as (traffic, inside, _):
            for path, expected in cases.items():
                seen = await counted(traffic, partial(get, inside.port, path))
                # Every try counts for the group: what is tried again hides nothing of a release.
                tries = 3 if path in ("/reset", "/close") else 1
                of_group = tuple(tries * number for number in expected)
                assert numbers(seen.groups.get(GROUP)) == of_group, path
                assert numbers(seen.edges.get(EDGE)) == expected, path
                if path != "/cut":  # Envoy's counters of a host take it for a success
                    assert numbers(seen.instances.get("a-1")) == of_group, path

    run(test())


async def get(port: int, path: str, patience: float = 30.0) -> None:
    async with client(port) as http:
        with contextlib.suppress(httpx2.HTTPError):
            await http.get(path, timeout=patience)


def test_every_try_counts_for_the_group_and_the_end_for_the_caller(tmp_path: Path) -> None:
    async def test() -> None:
        policy = Need(retry=Retry(attempts=3, on=("5xx", "reset")))
        async with unruly_web(tmp_path, policy) as (traffic, inside, _):
            for path in ("/status/503", "/reset"):
                seen = await counted(traffic, partial(get, inside.port, path))
                assert numbers(seen.groups[GROUP]) == (3, 3), path
                assert numbers(seen.instances["a-1"]) == (3, 3), path
                assert numbers(seen.edges[EDGE]) == (1, 1), path

    run(test())


def test_what_the_client_gives_up_is_no_failure_but_shows_in_the_latency(tmp_path: Path) -> None:
    async def test() -> None:
        async with unruly_web(tmp_path, Need()) as (traffic, inside, _):
            seen = await counted(traffic, lambda: get(inside.port, "/hang", patience=3.0))
            assert numbers(seen.groups.get(GROUP)) == (0, 0)
            assert numbers(seen.edges.get(EDGE)) == (0, 0)
            assert numbers(seen.instances.get("a-1")) == (0, 0)
            (index,) = seen.groups[GROUP].latency
            assert floor_ms(index) >= 250

    run(test())


def test_who_leaves_in_the_middle_was_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            unruly_web(tmp_path, Need()) as (traffic, inside, upstream),
            websocket_echo() as echo,
        ):
            seen = await counted(traffic, lambda: get(inside.port, "/stall", patience=3.0))
            assert numbers(seen.groups[GROUP]) == (1, 0)
            assert numbers(seen.edges[EDGE]) == (1, 0)

            web = service(a=(0, upstream.address), b=(100, echo))
            await apply(traffic, TrafficConfig(None, {"web": web}, (inside,)))

            async def talk() -> None:
                async with connect(f"ws://127.0.0.1:{inside.port}/") as socket:
                    await socket.send("hello")
                    assert await socket.recv() == "hello"

            seen = await counted(traffic, talk)
            assert numbers(seen.groups["web~b"]) == (1, 0)
            assert numbers(seen.edges[EDGE]) == (1, 0)
            assert not seen.edges[EDGE].latency

    run(test())


def test_nobody_to_connect_to_and_nobody_at_all(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path) as traffic:
            with socket.socket() as held:  # bound and never listening: refuses, and stays ours
                held.bind(("127.0.0.1", 0))
                dead = f"127.0.0.1:{held.getsockname()[1]}"
                edges = tuple(edge(traffic, "front", need) for need in ("dead", "none"))
                services = {"dead": service(a=(100, dead)), "none": service()}
                port = free_port()
                await apply(traffic, TrafficConfig(gateway(port), services, edges))
                traffic.attend(frozenset(services))
                seen = await counted(traffic, lambda: get(edges[0].port, "/"))
                group = seen.groups["dead~a"]
                assert group.requests == group.failures == 3  # the safe retries
                assert numbers(seen.edges["front~a~dead"]) == (1, 1)
                seen = await counted(traffic, lambda: get(edges[1].port, "/"))
                assert numbers(seen.edges["front~a~none"]) == (1, 1)
                seen = await counted(traffic, lambda: get(port, "/"))
                assert not seen.edges, "404: nothing is routed there"

    run(test())


def test_grpc_statuses_that_are_the_servers_fault(tmp_path: Path) -> None:
    faults = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"}
    faults |= {"DATA_LOSS"}

    async def test() -> None:
        answers = asyncio.Event()
        async with grpc_unruly(answers) as address, opened(tmp_path) as traffic:
            inside = edge(traffic, "front", "web", Need(timeout=5))
            services = {"web": service("grpc", a=(100, address))}
            await apply(traffic, TrafficConfig(None, services, (inside,)))
            traffic.attend(frozenset({"web"}))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{inside.port}") as channel:
                calls = {status.name: 1 for status in grpc.StatusCode if status.name != "OK"}

                async def all_statuses() -> None:
                    for name in calls:
                        assert await said(channel, name) == name

                seen = await counted(traffic, all_statuses)
                assert numbers(seen.groups[GROUP]) == (len(calls), len(faults))
                assert numbers(seen.edges[EDGE]) == (len(calls), len(faults))
                assert numbers(seen.instances["a-1"]) == (len(calls), len(faults))

                seen = await counted(traffic, lambda: said(channel, "OK"))  # too late
                assert numbers(seen.groups[GROUP]) == (1, 1)
                assert numbers(seen.edges[EDGE]) == (1, 1)

                async def stream(end: str, *words: str) -> None:
                    found = await asyncio.to_thread(streamed, inside.port, "one", *words)
                    assert found == end

                seen = await counted(traffic, lambda: stream("INTERNAL: as you wish", "INTERNAL"))
                assert numbers(seen.groups[GROUP]) == (1, 1)
                seen = await counted(traffic, lambda: stream("OK: "))
                assert numbers(seen.groups[GROUP]) == (1, 0)

                seen = await counted(traffic, lambda: left(channel))
                assert seen.groups[GROUP].failures == 0
                assert seen.edges[EDGE].failures == 0
                answers.set()
                seen = await counted(traffic, lambda: said(channel, "OK"))
                assert numbers(seen.groups[GROUP]) == (1, 0)

    run(test())


CODING = {
    "request_serializer": StringValue.SerializeToString,
    "response_deserializer": StringValue.FromString,
}


async def said(channel: grpc.aio.Channel, text: str) -> str:
    call = channel.unary_unary(ECHO, **CODING)(StringValue(value=text))
    return str((await call.code()).name)


def streamed(port: int, *words: str) -> str:
    """The status a stream ended with. A write of `grpc.aio` that fails hides it (grpc #36066)."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(STREAM, **CODING)(StringValue(value=word) for word in words)
        with contextlib.suppress(grpc.RpcError):
            list(call)
        return f"{call.code().name}: {call.details()}"


async def left(channel: grpc.aio.Channel) -> None:
    """A stream that the client cuts in the middle."""
    call = channel.stream_stream(STREAM, **CODING)()
    await call.write(StringValue(value="one"))
    await call.read()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call.code()


def test_tcp_connections(tmp_path: Path) -> None:
    async def test() -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            dead = f"127.0.0.1:{held.getsockname()[1]}"
            async with (
                tcp_unruly() as one,
                tcp_unruly() as two,
                opened(tmp_path) as traffic,
            ):
                edges = tuple(edge(traffic, "front", need) for need in ("db", "gone"))
                services = {
                    "db": service("tcp", a=(50, one), b=(50, two)),
                    "gone": ServiceTraffic(
                        "tcp", {"a": GroupTraffic(100, (Endpoint("gone-1", dead),))}
                    ),
                }
                await apply(traffic, TrafficConfig(None, services, edges))
                traffic.attend(frozenset(services))

                async def fine() -> None:
                    for _ in range(20):
                        assert await spoken(edges[0].port, b"hello") == b"ok"

                seen = await counted(traffic, fine)
                groups = [seen.groups[name] for name in ("db~a", "db~b")]
                assert sum(group.requests for group in groups) == 20
                assert sum(group.failures for group in groups) == 0
                assert all(group.requests > 0 for group in groups)
                assert numbers(seen.edges["front~a~db"]) == (20, 0)
                assert sum(numbers(found)[0] for found in seen.instances.values()) == 20
                seen = await counted(traffic, lambda: spoken(edges[0].port, b"reset"))
                assert numbers(seen.edges["front~a~db"]) == (1, 1)
                assert sum(group.failures for group in seen.groups.values()) == 1
                seen = await counted(traffic, lambda: spoken(edges[1].port, b"hello"))
                assert numbers(seen.groups["gone~a"]) == (1, 1)
                assert numbers(seen.edges["front~a~gone"]) == (1, 1)

    run(test())


async def spoken(port: int, word: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(word)
    try:
        return await reader.read(100)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.03])
def test_latency_is_between_what_server_and_client_measured(tmp_path: Path, seconds: float) -> None:
    async def test() -> None:
        async with unruly_web(tmp_path, Need()) as (traffic, inside, upstream):
            at_client: list[float] = []

            async def many() -> None:
                async with client(inside.port) as http:
                    for number in range(100):
                        begun = time.monotonic()
                        await http.get(f"/sleep/{seconds * (1 + number % 10)}")
                        at_client.append(time.monotonic() - begun)

            seen = await counted(traffic, many)
            latency = seen.groups[GROUP].latency
            assert latency == seen.edges[EDGE].latency
            found = [floor_ms(index) for index in sorted(latency) for _ in range(latency[index])]
            assert len(found) == 100
            # A bucket is 9 % wide, a bin 10 %.
            for low, is_in, high in zip(
                sorted(upstream.seconds), found, sorted(at_client), strict=True
            ):
                assert low * 1000 <= is_in * 1.09 * 1.05 + 0.001
                assert is_in <= high * 1000 * 1.05

    run(test())


def test_two_slots_and_the_gateway(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            Web("two").running() as two,
            opened(tmp_path) as traffic,
        ):
            port = free_port()
            web = service(a=(75, one.address), b=(25, two.address))
            await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
            traffic.attend(frozenset({"web"}))

            async def many() -> None:
                for number in range(200):
                    await get(port, "/status/500" if number % 4 == 0 else "/")

            seen = await counted(traffic, many)
            assert numbers(seen.edges["gateway~web"]) == (200, 50)
            assert seen.groups["web~a"].requests == one.requests
            assert seen.groups["web~b"].requests == two.requests
            assert one.requests + two.requests == 200
            assert sum(group.failures for group in seen.groups.values()) == 50
            assert seen.instances["a-1"] == Counters(one.requests, seen.groups["web~a"].failures)

    run(test())


def test_copies_count_for_the_canary_and_not_for_the_caller(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            Unruly().running() as canary,
            opened(tmp_path) as traffic,
        ):
            inside = edge(traffic, "front", "web")
            web = service(a=(100, one.address), b=(0, canary.address))
            web = replace(web, split=Split(canary="b", mirror=100))
            await apply(traffic, TrafficConfig(None, {"web": web}, (inside,)))
            traffic.attend(frozenset({"web"}))

            async def many() -> None:
                for path in ("/status/200", "/status/200", "/status/500", "/reset", "/cut"):
                    await get(inside.port, path)

            seen = await counted(traffic, many)
            assert numbers(seen.edges[EDGE]) == (5, 1)
            assert numbers(seen.groups[GROUP]) == (5, 1)
            assert numbers(seen.groups["web~b"]) == (5, 2)
            assert numbers(seen.instances["b-1"]) == (5, 2)
            assert not seen.groups["web~b"].latency
            assert sum(seen.rough[GROUP].latency.values()) == 5
            assert sum(seen.rough["web~b"].latency.values()) == 3  # of those that were answered

    run(test())


def test_a_killed_envoy_is_counted_from_its_new_beginning(tmp_path: Path) -> None:
    async def test() -> None:
        async with unruly_web(tmp_path, Need()) as (traffic, inside, _):
            await get(inside.port, "/")
            before = await fresh(traffic)
            (pid,) = traffic.observe().proxies
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: traffic.observe().proxies not in ((pid,), ()), "a new process")
            done = 0

            async def answered() -> bool:
                nonlocal done
                with contextlib.suppress(httpx2.HTTPError):
                    async with client(inside.port) as http:
                        await http.get("/")
                        done += 1
                return done >= 5

            await eventually(answered, "it serves again")
            after = await fresh(traffic)
            assert set(before.proxies).isdisjoint(after.proxies)
            assert numbers(delta(before, after).groups[GROUP]) == (done, 0)

    run(test())


def test_nothing_is_lost_or_counted_twice_when_envoy_replaces_itself(tmp_path: Path) -> None:
    async def test() -> None:
        async with unruly_web(tmp_path, Need(), drain_seconds=5) as (traffic, inside, _):
            await get(inside.port, "/")
            sample = await fresh(traffic)
            asked = requests = failures = latencies = 0
            together = len(sample.proxies)

            async def ask() -> None:
                nonlocal asked
                while not replacing.done():
                    await get(inside.port, "/status/500")
                    asked += 1
                    await asyncio.sleep(0.01)

            def tick(after: Sample) -> None:
                nonlocal sample, requests, failures, latencies, together
                found = delta(sample, after).groups.get(GROUP, Counters())
                requests += found.requests
                failures += found.failures
                latencies += sum(found.latency.values())
                together = max(together, len(after.proxies))
                sample = after
                assert requests <= asked + 1 >= latencies

            replacing = asyncio.create_task(traffic.replace())
            asking = asyncio.create_task(ask())
            while not asking.done():
                if traffic.sample().number != sample.number:
                    tick(traffic.sample())
                await asyncio.sleep(0.01)
            tick(await fresh(traffic))
            assert together == 2
            assert asked == requests == failures
            # An Envoy that is being replaced goes on counting, but merges no histogram any more.
            assert 0 < latencies <= requests

    run(test())


def test_another_control_plane_goes_on_counting(tmp_path: Path) -> None:
    async def test() -> None:
        async with unruly_web(tmp_path, Need()) as (traffic, inside, _):
            await get(inside.port, "/")
            before = await fresh(traffic)
            await traffic.close()
            for _ in range(7):
                await get(inside.port, "/status/500")
            again = EnvoyTraffic(tmp_path, lambda: None, drain_seconds=1)
            await again.open()
            again.attend(frozenset({"web"}))
            assert delta(before, again.sample()) == ProxySample()
            after = await fresh(again)
            assert set(before.proxies) == set(after.proxies)
            assert numbers(delta(before, after).groups[GROUP]) == (7, 7)
            await again.close()

    run(test())


def test_how_fast_each_instance_answers_is_known(tmp_path: Path) -> None:
    """Also where several edges and the gateway lead to it: nothing is counted twice."""

    async def test() -> None:
        async with (
            Web("a").running() as one,
            Web("b").running() as two,
            opened(tmp_path) as traffic,
        ):
            endpoints = (Endpoint("web-1-1", one.address), Endpoint("web-1-2", two.address))
            services = {"web": ServiceTraffic("http", {"a": GroupTraffic(100, endpoints)})}
            edges = tuple(edge(traffic, caller, "web") for caller in ("front", "side"))
            port = free_port()
            await apply(traffic, TrafficConfig(gateway(port), services, edges))
            traffic.attend(frozenset({"web"}))

            async def work() -> None:
                for listener in (port, *(item.port for item in edges)):
                    for _ in range(10):
                        await get(listener, "/")

            seen = await counted(traffic, work)
            found = {key: sum(each.latency.values()) for key, each in seen.served.items()}
            assert sorted(found) == ["web~a~1", "web~a~2"]
            assert found == {"web~a~1": one.requests, "web~a~2": two.requests}
            assert sum(found.values()) == 30

    run(test())


def test_a_sample_of_what_is_attended_is_told_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        told: list[int] = []
        async with opened(tmp_path, wake=lambda: told.append(traffic.sample().number)) as traffic:
            await apply(traffic, TrafficConfig(None, {}, ()))
            traffic.attend(frozenset({"web"}))
            first = traffic.sample().number + 1
            await eventually(lambda: told and told[-1] >= first + 3, "told of samples")
            assert {first, first + 1, first + 2} <= set(told)

    run(test())
