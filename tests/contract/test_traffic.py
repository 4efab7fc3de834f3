"""What every `Traffic` promises, asked of Envoy and of the simulated proxies alike."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from contract.traffics import Bench, EnvoyBench, SimBench

from volery.model.ports import (
    Endpoint,
    GroupTraffic,
    ServiceTraffic,
    TrafficConfig,
    TrafficStatus,
)

ASKED = 12


@pytest.fixture(params=[SimBench, EnvoyBench], ids=["simulated", "envoy"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    made: Callable[[Path], Bench] = request.param
    return made(tmp_path)


def wish(bench: Bench, a: GroupTraffic, b: GroupTraffic | None = None) -> TrafficConfig:
    """`web` behind the gateway, with these two slots."""
    web = ServiceTraffic("http", {"a": a, "b": b or GroupTraffic()})
    return TrafficConfig(bench.gateway, {"web": web})


async def group(bench: Bench, instance: str, weight: int = 100) -> GroupTraffic:
    """A slot with one instance that serves."""
    return GroupTraffic(weight, (Endpoint(instance, await bench.serve(instance)),))


async def in_force(bench: Bench, config: TrafficConfig, generation: int) -> TrafficStatus:
    """Applied, acknowledged by every proxy, served, and sampled since."""
    bench.traffic.apply(config, generation)

    def done() -> bool:
        status = bench.traffic.observe()
        assert status.acknowledged <= generation and status.sampled <= status.acknowledged
        assert status.rejected is None, status.rejected
        return status.ready and status.sampled == generation

    await bench.until(done)
    return bench.traffic.observe()


async def answers(bench: Bench) -> set[str]:
    return {await bench.ask() for _ in range(ASKED)}


def test_nothing_is_acknowledged_before_anything_was_wished(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        status = bench.traffic.observe()
        assert (status.acknowledged, status.sampled, status.rejected) == (0, 0, None)
        assert dict(status.in_flight) == {}

    bench.play(scenario)


def test_what_is_acknowledged_serves(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        config = wish(bench, await group(bench, "a-1"))
        before = len(bench.wakes)
        status = await in_force(bench, config, 1)
        assert status.acknowledged == 1 and dict(status.in_flight) == {}
        assert len(bench.wakes) > before, "looking again was worthwhile"
        assert await answers(bench) == {"a-1"}
        await in_force(bench, config, 7)
        assert await answers(bench) == {"a-1"}, "the same again under another number"

    bench.play(scenario)


def test_an_older_generation_is_ignored(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        old, new = await group(bench, "a-1"), await group(bench, "b-1")
        await in_force(bench, wish(bench, new), 5)
        for late in (4, 5):
            bench.traffic.apply(wish(bench, old), late)
            await bench.a_while()
            assert bench.traffic.observe().acknowledged == 5
            assert await answers(bench) == {"b-1"}
        await in_force(bench, wish(bench, old), 6)
        assert await answers(bench) == {"a-1"}

    bench.play(scenario)


def test_the_newest_of_many_wishes_is_the_one_that_counts(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        one, two = await group(bench, "a-1"), await group(bench, "b-1")
        told = [0]

        def looks() -> bool:
            told.append(bench.traffic.observe().acknowledged)
            return told[-1] == 9

        for generation in range(1, 10):
            config = wish(bench, one if generation % 2 else two)
            bench.traffic.apply(config, generation)
            looks()
        await bench.until(looks)
        assert all(before <= after for before, after in pairwise(told)), told
        assert await answers(bench) == {"a-1"}

    bench.play(scenario)


def test_requests_go_where_the_weight_is(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        a, b = await group(bench, "a-1"), await group(bench, "b-1")
        none_a, none_b = GroupTraffic(0, a.endpoints), GroupTraffic(0, b.endpoints)
        await in_force(bench, wish(bench, a, none_b), 1)
        assert await answers(bench) == {"a-1"}
        await in_force(bench, wish(bench, none_a, b), 2)
        assert await answers(bench) == {"b-1"}
        half = wish(bench, GroupTraffic(50, a.endpoints), GroupTraffic(50, b.endpoints))
        await in_force(bench, half, 3)
        assert {await bench.ask() for _ in range(8 * ASKED)} == {"a-1", "b-1"}

    bench.play(scenario)


def test_what_drains_gets_nothing_new_and_counts_until_it_is_done(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        leaving = await group(bench, "a-1")
        await in_force(bench, wish(bench, leaving), 1)
        held = await bench.hold()
        assert held.instance == "a-1"
        staying = await bench.serve("a-2")
        drained = (Endpoint("a-1", leaving.endpoints[0].address, draining=True),)
        both = GroupTraffic(100, (*drained, Endpoint("a-2", staying)))
        status = await in_force(bench, wish(bench, both), 2)
        assert status.in_flight["a-1"] >= 1 and "a-2" not in status.in_flight
        assert await answers(bench) == {"a-2"}
        await bench.a_while()
        assert bench.traffic.observe().in_flight["a-1"] >= 1
        await held.let_go()
        await bench.until(lambda: "a-1" not in bench.traffic.observe().in_flight)
        assert bench.traffic.observe().sampled == 2

    bench.play(scenario)


def test_an_edge_has_one_port_for_ever(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        edges = [
            (caller, slot, need)
            for caller in ("shop", "cart")
            for slot in ("a", "b")
            for need in ("web", "store")
        ]
        ports = [bench.traffic.edge_port(*edge) for edge in edges]  # type: ignore[arg-type]
        assert len(set(ports)) == len(edges)
        assert all(1024 <= port < 65536 for port in ports)
        await in_force(bench, wish(bench, await group(bench, "a-1")), 1)
        assert [bench.traffic.edge_port(*edge) for edge in reversed(edges)] == ports[::-1]  # type: ignore[arg-type]

    bench.play(scenario)
