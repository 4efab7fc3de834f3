"""Requests of every kind through a real Envoy: gateway, edges, paths, hosts, headers, policies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from integration.traffic.bench import (
    apply,
    client,
    draining,
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
from integration.traffic.upstreams import (
    ECHO,
    STREAM,
    Web,
    grpc_echo,
    http2_web,
    tcp_echo,
    websocket_echo,
)
from websockets.asyncio.client import connect

from volery.model.needs import Need, Retry
from volery.model.ports import GatewayRoute, GroupTraffic, TrafficConfig
from volery.model.state import SlotName
from volery.traffic import bootstrap, listeners
from volery.traffic.envoy import EnvoyTraffic
from volery.traffic.proxy import identity, known


@contextlib.asynccontextmanager
async def two_webs(home: Path) -> AsyncIterator[tuple[EnvoyTraffic, Web, Web]]:
    async with (
        Web("one").running() as one,
        Web("two").running() as two,
        opened(home) as traffic,
    ):
        yield traffic, one, two


async def names(port: int, count: int) -> Counter[str]:
    async with client(port) as http:
        answers = [(await http.get("/")).json()["name"] for _ in range(count)]
    return Counter(answers)


def test_weights_decide_and_a_switch_is_atomic(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, two):
            port = free_port()

            async def share(a: int, b: int) -> Counter[str]:
                web = service(a=(a, one.address), b=(b, two.address))
                await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
                return await names(port, 200)

            assert await share(100, 0) == {"one": 200}
            assert await share(0, 100) == {"two": 200}
            assert 20 <= (await share(75, 25))["two"] <= 90
            web = service(a=(50, one.address), b=(50, None))
            await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
            assert await names(port, 50) == {"one": 50}

    run(test())


def test_a_draining_instance_finishes_and_gets_nothing_new(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, two):
            port = free_port()
            web = service(a=(100, one.address), b=(0, two.address))
            config = TrafficConfig(gateway(port), {"web": web})
            await apply(traffic, config)
            async with client(port) as http:
                slow = asyncio.create_task(http.get("/slow"))
                await eventually(lambda: one.waiting == 1, "the request has arrived")
                turned = service(a=(0, one.address), b=(100, two.address))
                config = draining(replace(config, services={"web": turned}), "web", "a-1")
                status = await apply(traffic, config)
                await eventually(lambda: traffic.observe().sampled >= status.acknowledged)
                assert traffic.observe().in_flight == {"a-1": 1}
                assert await names(port, 50) == {"two": 50}
                one.release.set()
                assert (await slow).json()["name"] == "one"
                await eventually(lambda: not traffic.observe().in_flight, "drained")

    run(test())


def test_paths_hosts_and_strip(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, two):
            port = free_port()
            routes = (
                GatewayRoute("/", "web"),
                GatewayRoute("/api/catalog", "api", strip="/api/catalog"),
                GatewayRoute("/", "api", host="*.shop.test"),
                GatewayRoute("/", "web", host="m.shop.test"),
                GatewayRoute("/käse", "api", strip="/käse"),
            )
            services = {
                "web": service(a=(100, one.address)),
                "api": service(a=(100, two.address)),
            }
            await apply(traffic, TrafficConfig(gateway(port, *routes), services))
            async with client(port) as http:

                async def get(path: str, host: str = "x") -> tuple[str, str]:
                    seen = (await http.get(path, headers={"host": host})).json()
                    return seen["name"], seen["path"]

                assert await get("/") == ("one", "/")
                assert await get("/api/catalog") == ("two", "/")
                assert await get("/api/catalog?q=1") == ("two", "/?q=1")
                assert await get("/api/catalog/x/y?q=1") == ("two", "/x/y?q=1")
                assert await get("/api/catalogue") == ("one", "/api/catalogue")
                assert await get("/", "eu.shop.test") == ("two", "/")
                assert await get("/", f"EU.shop.test:{port}") == ("two", "/")
                assert await get("/", "shop.test") == ("one", "/")
                assert await get("/", "m.shop.test") == ("one", "/")
                assert await get("/k%C3%A4se/x") == ("two", "/x")
                await eventually(lambda: '"path":"/k%C3%A4se/x"' in log_of(tmp_path), "logged")
                assert '"path":"/api/catalog/x/y"' in log_of(tmp_path)
                assert '"path":"/x/y"' not in log_of(tmp_path)
                assert "q=1" not in log_of(tmp_path)
            only_api = (GatewayRoute("/api", "api"), GatewayRoute("/gone", "gone"))
            await apply(traffic, TrafficConfig(gateway(port, *only_api), services))
            async with client(port) as http:
                answer = await http.get("/apix")
                assert answer.status_code == 404
                assert "gateway.routes" in answer.text
                assert answer.headers["content-type"] == "text/plain"
                assert (await http.get("/gone/x")).status_code == 503
            nobody = {"api": service(a=(100, None)), "web": service()}
            await apply(traffic, TrafficConfig(gateway(port, *only_api), nobody))
            async with client(port) as http:
                assert (await http.get("/api")).status_code == 503

    run(test())


def log_of(home: Path) -> str:
    return "".join(path.read_text() for path in home.glob("envoy/*/log"))


@pytest.mark.parametrize("calm", [False, True])
def test_what_only_we_may_say_does_not_enter(tmp_path: Path, calm: bool) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _):
            port = free_port()
            services = {"web": service(a=(100, one.address))}
            inside = edge(traffic, "front", "web")
            await apply(traffic, TrafficConfig(gateway(port), services, (inside,)))
            if calm:
                await eventually(lambda: is_calm(tmp_path), "calm")
            sent = [
                ("x-volery-release", "forged"),
                ("X-Volery-Other", "forged"),
                ("x-envoy-retry-on", "5xx"),
                ("x-envoy-upstream-rq-timeout-ms", "1"),
                ("x-envoy-attempt-count", "9"),
                ("X-Envoy-Fault-Abort-Request", "503"),
                ("x-envoy-peer-metadata", "forged"),
                ("baggage", "user=1, fit=payments.abort;ttl=1"),
                ("baggage", "fit = x,outfit=blue"),
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-client-cert", "Hash=forged"),
                ("x-request-id", "mine"),
            ]
            async with client(port) as http:
                answer = await http.get("/?secret=1", headers=sent)
            seen = {name.lower(): value for name, value in answer.json()["headers"]}
            assert not [name for name in seen if name.startswith(("x-volery", "x-envoy"))]
            assert [part.strip() for part in seen["baggage"].split(",")] == [
                "user=1",
                "outfit=blue",
            ]
            assert seen["x-request-id"] == "mine"
            assert seen["x-forwarded-for"].split(",") == ["203.0.113.9", "127.0.0.1"]
            assert seen["x-forwarded-proto"] == "https", "who ends TLS in front of us says so"
            assert "x-forwarded-client-cert" not in seen
            assert answer.headers["server"] == "one"
            assert not [name for name in answer.headers if name.startswith("x-envoy")]
            async with client(inside.port) as http:
                seen = dict((await http.get("/", headers=sent)).json()["headers"])
            assert "x-volery-release" in seen
            assert "fit" in seen["baggage"]
            assert seen["x-forwarded-for"] == "203.0.113.9"
            assert seen["x-forwarded-proto"] == "https"
            assert seen["x-forwarded-client-cert"] == "Hash=forged"
            async with client(port) as http:
                seen = dict((await http.get("/")).json()["headers"])
            assert seen["x-forwarded-proto"] == "http"
            assert len(seen["x-request-id"]) == 36
            assert "baggage" not in seen
            assert "secret" not in log_of(tmp_path)

    run(test())


@pytest.mark.parametrize("calm", [False, True])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([b"fit=x"], None),
        ([b"a=1", b"fit=x"], "a=1"),
        ([b"fit=x", b"a=1"], "a=1"),
        ([b"a=1,\xff=2, volery-track=canary"], None),
        ([b"%66it=x,a=1"], "a=1"),
        ([b"a=1, +%76olery%2Dtrack = canary"], "a=1"),
        ([b"a=1, outfit=blue"], "a=1, outfit=blue"),
        ([b"a=1;b=2,c=3"], "a=1;b=2,c=3"),
    ],
)
def test_baggage_of_ours_does_not_enter_however_it_is_written(
    tmp_path: Path, calm: bool, sent: list[bytes], kept: str | None
) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _):
            port = free_port()
            web = service(a=(100, one.address))
            await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
            if calm:
                await eventually(lambda: is_calm(tmp_path), "calm")
            async with client(port) as http:
                answer = await http.get("/", headers=[(b"baggage", value) for value in sent])
            seen = [value for name, value in answer.json()["headers"] if name == "baggage"]
            found = ",".join(seen)
            assert "track" not in found
            assert "fit=x" not in found
            if kept is not None:
                assert found == kept

    run(test())


def test_a_new_release_may_speak_another_http(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _), http2_web("new") as new:
            port = free_port()

            async def share(a: int, b: int, live: str = "http") -> Counter[str]:
                web = service(live, a=(a, one.address), b=(b, new))
                slots: dict[SlotName, GroupTraffic] = {
                    "a": replace(web.slots["a"], protocol="http"),
                    "b": replace(web.slots["b"], protocol="http2"),
                }
                web = replace(web, slots=slots)
                await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
                return await names(port, 100)

            assert set(await share(50, 50)) == {"one", "new"}
            assert await share(0, 100) == {"new": 100}
            assert await share(0, 100, "http2") == {"new": 100}
            assert await share(100, 0, "http2") == {"one": 100}, "and back to a warm group"

    run(test())


def test_http2_websocket_and_grpc_through_the_gateway(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            two_webs(tmp_path) as (traffic, one, _),
            websocket_echo() as echo,
            grpc_echo("one") as first,
            grpc_echo("two") as second,
        ):
            port = free_port()
            routes = (
                GatewayRoute("/", "web"),
                GatewayRoute("/ws", "chat"),
                GatewayRoute("/test.Echo", "rpc"),
            )
            services = {
                "web": service(a=(100, one.address)),
                "chat": service(a=(100, echo)),
                "rpc": service("grpc", a=(100, first), b=(0, second)),
            }
            config = TrafficConfig(gateway(port, *routes), services)
            await apply(traffic, config)
            async with client(port, http1=False, http2=True) as http:
                answer = await http.get("/")
                assert (answer.http_version, answer.json()["name"]) == ("HTTP/2", "one")
            async with (
                connect(f"ws://127.0.0.1:{port}/ws") as socket,
                grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
            ):
                assert await unary(channel) == "one:hello"
                talk = stream(channel)
                assert await say(talk, "hi") == "one:hi"
                await socket.send("hi")
                assert await socket.recv() == "hi"
                turned = {**services, "rpc": service("grpc", a=(0, first), b=(100, second))}
                config = replace(config, services=turned)
                config = draining(draining(config, "rpc", "a-1"), "chat", "a-1")
                status = await apply(traffic, config)
                await eventually(lambda: traffic.observe().sampled >= status.acknowledged)
                assert traffic.observe().in_flight == {"a-1": 2}
                assert await unary(channel) == "two:hello"
                assert await say(talk, "still") == "one:still"
                await socket.send("still")
                assert await socket.recv() == "still"
                await talk.done_writing()
            await eventually(lambda: not traffic.observe().in_flight, "drained")

    run(test())


async def unary(channel: grpc.aio.Channel) -> str:
    call = channel.unary_unary(
        ECHO,
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    return str((await call(StringValue(value="hello"), timeout=30)).value)


def stream(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall:
    return channel.stream_stream(
        STREAM,
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )()


async def say(talk: grpc.aio.StreamStreamCall, text: str) -> str:
    await talk.write(StringValue(value=text))
    return str((await talk.read()).value)


def test_tcp_through_an_edge(tmp_path: Path) -> None:
    async def test() -> None:
        async with tcp_echo("one") as first, tcp_echo("two") as second, opened(tmp_path) as traffic:
            inside = edge(traffic, "front", "db")
            services = {"db": service("tcp", a=(100, first), b=(0, second))}
            config = TrafficConfig(None, services, (inside,))
            await apply(traffic, config)
            reader, writer = await asyncio.open_connection("127.0.0.1", inside.port)
            assert await reader.readline() == b"one\n"
            turned = {"db": service("tcp", a=(0, first), b=(100, second))}
            config = draining(replace(config, services=turned), "db", "a-1")
            status = await apply(traffic, config)
            await eventually(lambda: traffic.observe().sampled >= status.acknowledged)
            assert traffic.observe().in_flight == {"a-1": 1}
            writer.write(b"still\n")
            assert await reader.readline() == b"still\n"
            other, closing = await asyncio.open_connection("127.0.0.1", inside.port)
            assert await other.readline() == b"two\n"
            writer.close()
            await eventually(lambda: "a-1" not in traffic.observe().in_flight, "drained")
            closing.close()

    run(test())


@pytest.mark.parametrize(
    ("policy", "path", "status", "tries"),
    [
        (Need(), "/status/503", 503, 1),
        (Need(retry=Retry(attempts=3, on=("5xx",))), "/status/503", 503, 3),
        (Need(retry=Retry(attempts=3, on=("5xx",))), "/status/404", 404, 1),
        (Need(timeout=0.2), "/slow", 504, 1),
        (Need(timeout=5, retry=Retry(attempts=2, per_try=0.2, on=("timeout",))), "/slow", 504, 2),
    ],
    ids=["safe", "5xx", "4xx", "timeout", "per try"],
)
def test_an_edge_has_its_own_policy(
    tmp_path: Path, policy: Need, path: str, status: int, tries: int
) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _):
            inside = edge(traffic, "front", "web", policy)
            services = {"web": service(a=(100, one.address))}
            await apply(traffic, TrafficConfig(None, services, (inside,)))
            async with client(inside.port) as http:
                assert (await http.get(path)).status_code == status
            await eventually(lambda: one.requests >= tries, "every try has arrived")
            assert one.requests == tries

    run(test())


def test_a_refused_connection_is_tried_elsewhere_unseen(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _):
            port = free_port()
            found = service(a=(100, one.address))
            group = found.slots["a"]
            with socket.socket() as held:  # bound and never listening: refuses, and stays ours
                held.bind(("127.0.0.1", 0))
                dead = f"127.0.0.1:{held.getsockname()[1]}"
                other = replace(group.endpoints[0], address=dead)
                more = replace(group, endpoints=(*group.endpoints, other))
                web = replace(found, slots={"a": more, "b": found.slots["b"]})
                await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
                assert await names(port, 50) == {"one": 50}

    run(test())


def test_connections_that_stay_are_shared_equally_by_the_workers(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _):
            port = free_port()
            web = service(a=(100, one.address))
            await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
            workers = identity(tmp_path).workers
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(20 * workers):
                    http = await stack.enter_async_context(client(port))
                    assert (await http.get("/")).status_code == 200
                [proxy] = known(tmp_path)
                text = await told(proxy, "/stats?filter=worker_[0-9].downstream_cx_active")
            held = [int(line.split(": ")[1]) for line in text.splitlines() if f"~{port}." in line]
            assert held == [20] * workers

    run(test())


def test_as_many_users_as_there_may_be_leave_services_free_to_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "MAX_CLIENT_CONNECTIONS", 3)

    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _):
            port, inside = free_port(), edge(traffic, "front", "web")
            web = service(a=(100, one.address))
            await apply(traffic, TrafficConfig(gateway(port), {"web": web}, (inside,)))
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            for reader, writer in held:
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b"", "one too many"
            held.append((reader, writer))
            for _ in range(5):
                async with client(inside.port) as http:
                    assert (await http.get("/")).status_code == 200
            for _, writer in held:
                writer.close()

    run(test())


def test_headers_must_come_in_time_and_answers_have_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "HEADERS_SECONDS", 0.2)

    async def test() -> None:
        async with two_webs(tmp_path) as (traffic, one, _):
            port = free_port()
            web = service(a=(100, one.address))
            await apply(traffic, TrafficConfig(gateway(port), {"web": web}))
            async with client(port) as http:
                slow = asyncio.create_task(http.get("/slow"))
                await eventually(lambda: one.waiting)
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
                writer.close()
                one.release.set()
                assert (await slow).status_code == 200

    run(test())
