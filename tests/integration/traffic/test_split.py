"""How requests are split between the groups of a service, by a real Envoy."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from integration.traffic.bench import apply, edge, free_port, gateway, opened, run
from integration.traffic.stage import HERE, ask, by_cookie, by_user, names, near, stage, web
from integration.traffic.upstreams import tcp_echo

from volery.model.deploy import Override, Sticky
from volery.model.needs import Backoff, Need, Retry
from volery.model.ports import Edge, GatewayRoute, TrafficConfig
from volery.traffic.bootstrap import fallback
from volery.traffic.proxy import envoy_binary
from volery.traffic.xds import snapshot

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
            for odd in (b"theme=\xfc; who%=x; a=\xff", b"who%=\xfc\xff"):
                assert (await ask(at.port, [(b"cookie", odd)]))["cookie"] is None, "no text"
            forged = await ask(at.port, [("x-request-id", "x; Domain=example.com")])
            assert forged["cookie"] is None
            assert (await ask(at.inside.port))["cookie"] is None
            await at.splits(100, 0, sticky=Sticky(cookie="who%"))
            assert (await ask(at.port))["cookie"] is None

    run(test())


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
    validated(tmp_path, TrafficConfig(gateway(free_port(), *routes), services, edges))


MONTH = 30 * 86400.0
ALL = ("connect", "reset", "5xx", "timeout", "gateway-error")
LEAST = Retry(attempts=1, per_try=0.001, backoff=Backoff(base=0, cap=0), on=(), budget=0)
MOST = Retry(
    attempts=10,
    per_try=MONTH,
    backoff=Backoff(base=MONTH, cap=MONTH),
    on=ALL,
    methods="all",
    budget=1,
)


@pytest.mark.parametrize("protocol", ["http", "http2", "grpc", "tcp"])
def test_an_envoy_accepts_the_smallest_and_the_largest_of_every_number(
    tmp_path: Path, protocol: str
) -> None:
    # 0 is refused in a manifest, and may be in what was written down when it was not.
    policies = [
        Need(timeout=timeout, retry=retry, when_unavailable=what)
        for timeout in (None, 0.0, 0.001, MONTH)
        for retry in (None, LEAST, LEAST.model_copy(update={"per_try": 0.0}), MOST)
        for what in ("fail_fast", "keep_trying")
    ]
    edges = tuple(
        Edge("front", "a", "web", 20_000 + index, need) for index, need in enumerate(policies)
    )
    services = {"web": web((100, HERE), (0, HERE), protocol=protocol)}
    validated(tmp_path, TrafficConfig(None, services, edges))


def validated(home: Path, wish: TrafficConfig) -> None:
    """A real Envoy would start with this."""
    written = home / "whole.pb"
    written.write_bytes(fallback(snapshot(wish)))
    checked = subprocess.run(
        [envoy_binary(), "--mode", "validate", "--config-path", str(written)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr[-2000:]
