"""How requests are split between the groups of a service, by a real Envoy.

Shares are judged by binomial bounds of five standard deviations, never by time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio
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
)
from integration.traffic.upstreams import ECHO, Web, grpc_echo, tcp_echo, websocket_echo
from websockets.asyncio.client import connect

from volery.model.application import Need, Override, Retry, Sticky
from volery.model.ports import (
    Edge,
    Endpoint,
    GatewayRoute,
    GroupTraffic,
    ServiceTraffic,
    Split,
    TrafficConfig,
)
from volery.traffic import split
from volery.traffic.bootstrap import fallback
from volery.traffic.envoy import EnvoyTraffic
from volery.traffic.proxy import envoy_binary
from volery.traffic.xds import snapshot

Headers = list[tuple[str, str]]
CONNECTIONS = 8
HERE = "127.0.0.1:9"
TAGGED = [("baggage", "volery-track=canary")]


def near(count: int, total: int, share: float) -> bool:
    """Whether a count is what chance makes of this share."""
    return abs(count - total * share) <= 5 * math.sqrt(total * share * (1 - share)) + 1


def web(
    stable: tuple[float, str | None],
    canary: tuple[float, str | None],
    baseline: tuple[float, str | None] | None = None,
    protocol: Any = "http",
    **kind: Any,
) -> ServiceTraffic:
    """A service whose slot b is the canary: (weight, address) of each group."""
    groups = {"a": stable, "b": canary} | ({"c": baseline} if baseline else {})
    slots: Any = {
        slot: GroupTraffic(weight, (Endpoint(f"{slot}-1", address),) if address else ())
        for slot, (weight, address) in groups.items()
    }
    return ServiceTraffic(protocol, slots, Split("b", **kind))


@dataclass
class Stage:
    """Three groups behind a gateway and an edge."""

    traffic: EnvoyTraffic
    stable: Web
    canary: Web
    baseline: Web
    port: int
    inside: Edge
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def splits(self, a: float, b: float, c: float | None = None, **kind: Any) -> None:
        third = None if c is None else (c, self.baseline.address)
        await self.be(web((a, self.stable.address), (b, self.canary.address), third, **kind))

    async def be(self, service: ServiceTraffic) -> None:
        wish = TrafficConfig(gateway(self.port), {"web": service}, (self.inside,))
        await apply(self.traffic, wish)


@contextlib.asynccontextmanager
async def stage(home: Path, policy: Need | None = None) -> AsyncIterator[Stage]:
    async with (
        Web("stable").running() as stable,
        Web("canary").running() as canary,
        Web("baseline").running() as baseline,
        opened(home) as traffic,
    ):
        inside = edge(traffic, "front", "web", policy)
        yield Stage(traffic, stable, canary, baseline, free_port(), inside)


async def ask(port: int, headers: Headers | None = None, method: str = "GET") -> dict[str, Any]:
    """Who answered, what it saw of `baggage`, and the cookie that came back."""
    async with client(port) as http:
        answer = await http.request(method, "/", headers=headers)
    seen = answer.json()
    found: Headers = seen["headers"]
    baggage = [value for name, value in found if name == "baggage"]
    return {"name": seen["name"], "baggage": baggage, "cookie": answer.headers.get("set-cookie")}


async def names(port: int, count: int, header: Callable[[int], str] = lambda _: "") -> list[str]:
    """Who answered each of many requests, over a few connections kept open."""
    found = [""] * count

    async def some(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for index in range(first, count, CONNECTIONS):
            line = header(index)
            writer.write(f"GET / HTTP/1.1\r\nhost: x\r\n{line}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            found[index] = json.loads(await reader.readexactly(length))["name"]
        writer.close()

    async with asyncio.TaskGroup() as group:
        for first in range(CONNECTIONS):
            group.create_task(some(first))
    return found


def by_user(name: str) -> Callable[[int], str]:
    return lambda index: f"{name}: user-{index}\r\n"


def by_cookie(name: str) -> Callable[[int], str]:
    return lambda index: f"cookie: theme=dark; {name}=user-{index}\r\n"


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """An address that is ours and refuses every connection."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


# --- weights --------------------------------------------------------------------------------------


def test_fractions_and_three_groups_get_their_shares(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            for port in (at.port, at.inside.port):
                await at.splits(99, 0.5, 0.5)
                found = Counter(await names(port, 4000))
                assert near(found["canary"], 4000, 0.005)
                assert near(found["baseline"], 4000, 0.005)
                await at.splits(70, 20, 10)
                found = Counter(await names(port, 1000))
                assert near(found["canary"], 1000, 0.2)
                assert near(found["baseline"], 1000, 0.1)
                assert near(found["stable"], 1000, 0.7)

    run(test())


def test_all_weights_move_in_one_acknowledged_update(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(98, 1, 1)
            going = asyncio.create_task(names(at.port, 2000))
            await at.splits(0, 50, 50)
            assert "stable" not in await names(at.port, 200)
            assert "stable" not in await names(at.inside.port, 200)
            assert len(await going) == 2000
            await at.splits(100, 0)
            assert set(await names(at.port, 100)) == {"stable"}

    run(test())


@pytest.mark.parametrize("share", [1.0, 5.0, 30.0])
def test_tcp_connections_are_shared_by_weight(tmp_path: Path, share: float) -> None:
    async def test() -> None:
        async with (
            tcp_echo("stable") as stable,
            tcp_echo("canary") as canary,
            tcp_echo("baseline") as baseline,
            opened(tmp_path) as traffic,
        ):
            inside = edge(traffic, "front", "db")
            db = web((100 - 2 * share, stable), (share, canary), (share, baseline), "tcp")
            await apply(traffic, TrafficConfig(None, {"db": db}, (inside,)))
            found: Counter[bytes] = Counter()
            writers = []
            for _ in range(1000):
                reader, writer = await asyncio.open_connection("127.0.0.1", inside.port)
                found[(await reader.readline()).strip()] += 1
                writers.append(writer)
            for writer in writers:
                writer.close()
            assert near(found[b"canary"], 1000, share / 100)
            assert near(found[b"baseline"], 1000, share / 100)

    run(test())


# --- sticky ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cookie", "header"])
@pytest.mark.parametrize("inside", [False, True], ids=["gateway", "edge"])
def test_a_growing_canary_loses_nobody_and_a_shrinking_one_only_who_must(
    tmp_path: Path, kind: str, inside: bool
) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            port = at.inside.port if inside else at.port
            sticky = Sticky(cookie="who") if kind == "cookie" else Sticky(header="x-user")
            who = by_cookie("who") if kind == "cookie" else by_user("x-user")
            users = 600

            async def groups(canary: float, baseline: float) -> dict[str, set[int]]:
                await at.splits(100 - canary - baseline, canary, baseline, sticky=sticky)
                found = await names(port, users, who)
                assert found == await names(port, users, who), "nobody drifts"
                return {
                    name: {index for index, answered in enumerate(found) if answered == name}
                    for name in ("stable", "canary", "baseline")
                }

            small, large = await groups(5, 5), await groups(25, 25)
            assert near(len(small["canary"]), users, 0.05)
            assert near(len(large["canary"]), users, 0.25)
            assert near(len(large["baseline"]), users, 0.25)
            assert small["canary"] < large["canary"]
            assert small["baseline"] < large["baseline"]
            assert await groups(5, 5) == small
            alone = await groups(25, 0)
            assert alone["canary"] == large["canary"]
            assert alone["stable"] == large["stable"] | large["baseline"]

    run(test())


def test_who_does_not_say_who_he_is_is_sent_by_chance(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(80, 20, sticky=Sticky(header="x-user"))
            for port in (at.port, at.inside.port):
                assert near(Counter(await names(port, 500))["canary"], 500, 0.2)
            await at.splits(80, 20, sticky=Sticky(cookie="who"))
            for port in (at.port, at.inside.port):
                assert near(Counter(await names(port, 500))["canary"], 500, 0.2)

    run(test())


def test_a_newcomer_is_given_a_cookie_and_stays_where_the_first_request_went(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(50, 50, sticky=Sticky(cookie="who%"))
            groups = Counter[str]()
            for _ in range(100):
                first = await ask(at.port)
                value, attributes = first["cookie"].split("; ", 1)
                assert value.startswith("who%=")
                assert attributes == "Path=/; HttpOnly; SameSite=Lax"
                second = await ask(at.port, [("cookie", f"theme=dark; {value}")])
                assert (second["name"], second["cookie"]) == (first["name"], None)
                groups[first["name"]] += 1
            assert near(groups["canary"], 100, 0.5)
            forged = await ask(at.port, [("x-request-id", "x; Domain=example.com")])
            assert forged["cookie"] is None
            assert (await ask(at.inside.port))["cookie"] is None
            await at.splits(100, 0, sticky=Sticky(cookie="who%"))
            assert (await ask(at.port))["cookie"] is None

    run(test())


# --- reaching the canary on purpose ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "hit", "misses"),
    [
        (
            Override(header="X-Track"),
            [("x-track", "canary")],
            [[("x-track", "canary2")], [("x-track", "")], []],
        ),
        (
            Override(cookie="track", value="b; ~" + "x" * 250),
            [("cookie", "a=1; track=b; ~" + "x" * 250)],
            [[("cookie", "track=b")], [("cookie", "xtrack=b; ~" + "x" * 250)]],
        ),
    ],
    ids=["header", "cookie"],
)
def test_an_override_reaches_the_canary_while_it_can_answer(
    tmp_path: Path, override: Override, hit: Headers, misses: list[Headers]
) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0, override=override, sticky=Sticky(cookie="who"))
            for port in (at.port, at.inside.port):
                assert (await ask(port, hit))["name"] == "canary"
                for miss in misses:
                    assert (await ask(port, miss))["name"] == "stable"
            await at.be(web((100, at.stable.address), (0, None), override=override))
            for port in (at.port, at.inside.port):
                assert (await ask(port, hit))["name"] == "stable"

    run(test())


def test_what_went_through_a_canary_says_so_once_and_goes_on_to_canaries(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            override = Override(header="x-go")
            go = [("x-go", "canary")]
            await at.splits(100, 0, override=override)
            for port in (at.port, at.inside.port):
                assert (await ask(port, go))["baggage"] == ["volery-track=canary"]
                mine = [*go, ("baggage", "user=1;p=2"), ("baggage", "cart=3")]
                assert (await ask(port, mine))["baggage"] == [
                    "user=1;p=2,cart=3,volery-track=canary"
                ]
                assert (await ask(port))["baggage"] == []
            tagged = await ask(at.inside.port, [*go, *TAGGED])
            assert tagged == {"name": "canary", "baggage": ["volery-track=canary"], "cookie": None}
            assert (await ask(at.port, TAGGED))["name"] == "stable"

            await at.splits(0, 100)
            assert (await ask(at.port))["baggage"] == ["volery-track=canary"]
            await at.splits(50, 50, sticky=Sticky(header="x-user"))
            for index in range(20):
                found = await ask(at.port, [("x-user", f"user-{index}")])
                assert bool(found["baggage"]) == (found["name"] == "canary")

            await at.be(web((100, at.stable.address), (0, None)))
            assert (await ask(at.inside.port, TAGGED))["name"] == "stable"

    run(test())


@pytest.mark.parametrize(
    "member",
    [
        "volery-track=canary",
        " volery-track = canary",
        "volery-other",
        "volery%2Dtrack=canary",
        "%76olery-track=canary",
        "+volery-track=canary",
        "fit=x",
        "f%69t=x",
    ],
)
def test_nobody_outside_speaks_for_us(tmp_path: Path, member: str) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0)
            found = await ask(at.port, [("baggage", f"a=1,{member},my-volery-x=2,b=volery-x")])
            assert found["name"] == "stable"
            assert found["baggage"] == ["a=1,my-volery-x=2,b=volery-x"]

    run(test())


# --- mirroring ------------------------------------------------------------------------------------


def test_copies_of_safe_requests_reach_the_canary_and_its_answers_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0, mirror=100.0)
            for _ in range(20):
                assert (await ask(at.port, method="POST"))["name"] == "stable"
            await at.splits(100, 0, mirror=100.0, mirror_all=True)
            assert (await ask(at.port, method="POST"))["name"] == "stable"
            await eventually(lambda: at.canary.requests == 1, "the copy of one POST")
            await at.splits(100, 0, mirror=100.0, override=Override(header="x-go"))
            assert (await ask(at.port, [("x-go", "canary")]))["name"] == "canary"
            assert at.canary.requests == 2
            await at.splits(100, 0, mirror=25.0)
            assert set(await names(at.port, 400)) == {"stable"}
            assert set(await names(at.inside.port, 400)) == {"stable"}
            assert at.stable.requests == 21 + 800
            await eventually(lambda: near(at.canary.requests - 2, 800, 0.25), "copies arrived")

    run(test())


@pytest.mark.parametrize("state", ["slow", "dead"])
def test_users_do_not_notice_a_mirror_that_does_not_answer(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "MIRROR_MILLISECONDS", 500)

    async def test() -> None:
        async with stage(tmp_path) as at:
            with refusing() as dead:
                target = dead if state == "dead" else at.canary.address
                at.stable.release.set()
                await at.be(web((100, at.stable.address), (0, target), mirror=100.0))
                async with client(at.port) as http:
                    for _ in range(30):
                        answer = await http.get("/slow")
                        assert (answer.status_code, answer.json()["name"]) == (200, "stable")
                if state == "slow":
                    await eventually(lambda: at.canary.waiting == 30, "copies wait")
                await eventually(lambda: not at.traffic.observe().in_flight, "copies are given up")

    run(test())


def test_neither_websockets_nor_grpc_calls_are_copied(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            stage(tmp_path) as at,
            websocket_echo() as echo,
            grpc_echo("stable") as first,
            grpc_echo("canary") as second,
        ):
            mirror: dict[str, Any] = {"mirror": 100.0, "mirror_all": True}
            await at.be(web((100, echo), (0, at.canary.address), **mirror))
            async with connect(f"ws://127.0.0.1:{at.port}/") as talk:
                await talk.send("hi")
                assert await talk.recv() == "hi"
            await at.be(web((100, first), (0, second), protocol="grpc", **mirror))
            for port in (at.port, at.inside.port):
                assert await say(port) == "stable:hi"
                assert await say(port, TAGGED) == ("canary:hi" if port != at.port else "stable:hi")
            assert at.canary.requests == 0

    run(test())


async def say(port: int, metadata: Headers | None = None) -> str:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            ECHO,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        answer = await call(StringValue(value="hi"), timeout=30, metadata=metadata)
        return str(answer.value)


# --- what Envoy makes of it ---------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http", "http2", "grpc", "tcp"])
@pytest.mark.parametrize("name", ["x" * 64, "%!#$&'*+.^_`|~-"], ids=["long", "odd"])
def test_an_envoy_without_control_plane_accepts_every_kind_of_split(
    tmp_path: Path, protocol: str, name: str
) -> None:
    kinds: list[dict[str, Any]] = [
        {"sticky": Sticky(cookie=name), "override": Override(cookie=name, value="~" * 256)},
        {"sticky": Sticky(header=name), "override": Override(header=name, value="~" * 256)},
    ]
    services = {
        f"s{number}-{weight}": web(
            (100 - weight, HERE), (weight, HERE), (0, HERE), protocol, **kind
        )
        for number, kind in enumerate(kinds)
        for weight in (0, 5)
    }
    services = {
        key: replace(one, split=replace(one.split, mirror=5)) for key, one in services.items()
    }
    edges = tuple(
        Edge("front", "a", need, 20_000 + index, Need()) for index, need in enumerate(services)
    )
    routes = (
        GatewayRoute(f"/{need}/{'p' * 200}", need, strip="/" + "p" * 200) for need in services
    )
    wish = TrafficConfig(gateway(free_port(), *routes), services, edges)
    written = tmp_path / "whole.pb"
    written.write_bytes(fallback(snapshot(wish)))
    checked = subprocess.run(
        [envoy_binary(), "--mode", "validate", "--config-path", str(written)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr[-2000:]


# --- failures of the canary -----------------------------------------------------------------------


def test_no_retry_hides_a_canary_that_cannot_be_reached(tmp_path: Path) -> None:
    retry = Need(retry=Retry(attempts=2, on=("connect", "reset", "5xx")))

    async def test() -> None:
        async with stage(tmp_path, retry) as at:
            with refusing() as dead:
                await at.be(web((70, at.stable.address), (30, dead)))
                for port in (at.port, at.inside.port):
                    async with client(port) as http:
                        found = [(await http.get("/")).status_code for _ in range(100)]
                    assert set(found) == {200, 503}
                    assert near(found.count(503), 100, 0.3)

    run(test())


def test_a_retry_stays_in_the_group(tmp_path: Path) -> None:
    retry = Need(retry=Retry(attempts=4, on=("5xx",)))

    async def test() -> None:
        async with stage(tmp_path, retry) as at:
            await at.splits(50, 50, override=Override(header="x-go"))
            async with client(at.inside.port) as http:
                failed = await http.get("/status/500", headers=[("x-go", "canary")])
            assert failed.json()["name"] == "canary"
            assert (at.canary.requests, at.stable.requests) == (4, 0)

    run(test())
