"""Envoy lives through everything: refusals, kills, our own restarts, its own replacement."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from integration.traffic.bench import (
    Load,
    apply,
    client,
    draining,
    edge,
    eventually,
    free_port,
    gateway,
    opened,
    run,
    service,
    told,
)
from integration.traffic.upstreams import Web, websocket_echo
from websockets.asyncio.client import connect

from volery.model.errors import VoleryError
from volery.model.needs import Need, Retry
from volery.model.ports import GatewayRoute, TrafficConfig
from volery.supervise.process import Supervised
from volery.traffic import xds
from volery.traffic.addresses import check_port
from volery.traffic.admin import Admin
from volery.traffic.envoy import EnvoyTraffic
from volery.traffic.proxy import known


async def answers(port: int) -> bool:
    """Whether a request through the gateway is answered now."""
    outcomes: Counter[str] = Counter()
    load = Load(port)
    await load.one(outcomes)
    return outcomes == {"200": 1}


def only_200(outcomes: Counter[str]) -> None:
    assert set(outcomes) == {"200"}, outcomes
    assert outcomes["200"] > 100


def test_what_envoy_refuses_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            first = await apply(traffic, config)
            honest = xds.Compiler.snapshot

            def spoiled(_: xds.Compiler, wish: TrafficConfig) -> xds.Snapshot:
                state = honest(xds.Compiler(), wish)
                listeners = dict(state.types[xds.LISTENERS])
                for listener in listeners.values():
                    listener.filter_chains[0].filters[0].typed_config.Pack(StringValue(value="no"))
                return state.with_types(listeners=listeners)

            monkeypatch.setattr(xds.Compiler, "snapshot", spoiled)
            worse = replace(config, services={**config.services, "new": service()})
            traffic.apply(worse, first.acknowledged + 1)
            await eventually(lambda: traffic.observe().rejected, "refused")
            status = traffic.observe()
            assert status.acknowledged == first.acknowledged
            assert "StringValue" in str(status.rejected)
            assert await answers(port)
            monkeypatch.setattr(xds.Compiler, "snapshot", honest)
            traffic.apply(worse, first.acknowledged + 2)
            await eventually(lambda: traffic.observe().acknowledged == first.acknowledged + 2)
            assert traffic.observe().rejected is None
            assert await answers(port)

    run(test())


def test_what_envoy_refuses_at_first_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody took the port between our look and Envoy's, and has gone since."""
    monkeypatch.setattr(EnvoyTraffic, "_check_ports", lambda traffic, target: None)

    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", port))
                taken.listen()
                traffic.apply(config, 1)
                await eventually(lambda: traffic.observe().rejected, "refused")
                assert "in use" in str(traffic.observe().rejected)
            traffic.apply(config, 2)
            await eventually(lambda: traffic.observe().acknowledged == 2, "tried again")
            assert await answers(port)

    run(test())


def test_what_a_full_disk_kept_from_being_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            port, applied = free_port(), tmp_path / "applied.json"
            first = TrafficConfig(gateway(port), {"web": service(a=(100, None))})
            await apply(traffic, first)
            before = applied.read_bytes()
            web = service(a=(100, one.address))
            with monkeypatch.context() as patched:
                patched.setattr("volery.traffic.envoy.write_atomically", full)
                await apply(traffic, replace(first, services={"web": web}))
                assert await answers(port) and applied.read_bytes() == before
            await eventually(lambda: one.address.encode() in applied.read_bytes(), "written")
            await traffic.close()
            with monkeypatch.context() as patched:
                patched.setattr("volery.traffic.envoy.write_atomically", full)
                await traffic.open()  # what is written already needs no room
            assert await answers(port)

    run(test())


@pytest.mark.parametrize("control_plane", [True, False], ids=["with", "without"])
def test_a_killed_envoy_serves_again(tmp_path: Path, control_plane: bool) -> None:
    async def test() -> None:
        async with Web("one").running() as one:
            port = free_port()
            async with opened(tmp_path) as traffic:
                inside = edge(traffic, "front", "web")
                web = service(a=(100, one.address))
                config = TrafficConfig(gateway(port), {"web": web}, (inside,))
                status = await apply(traffic, config)
                if not control_plane:
                    await traffic.close()
                seen = {0}
                for _ in range(2):
                    await eventually(lambda: envoy_pid(tmp_path) not in seen, "a new process")
                    seen.add(envoy_pid(tmp_path))
                    os.kill(envoy_pid(tmp_path), signal.SIGKILL)
                    await eventually(lambda: envoy_pid(tmp_path) not in seen, "a new process")
                    await eventually(lambda: answers(port), "serves again")
                    await eventually(lambda: answers(inside.port), "serves again")
                if not control_plane:
                    await traffic.open()
                    assert traffic.observe().acknowledged == 0
                next_status = await apply(traffic, config)
                assert next_status.acknowledged > status.acknowledged
                await eventually(lambda: len(traffic.observe().proxies) == 1, "one proxy")
                assert await answers(port)

    run(test())


def test_a_service_called_gateway_is_not_the_gateway(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            Web("two").running() as two,
            opened(tmp_path) as traffic,
        ):
            inside = edge(traffic, "gateway", "catalog")
            services = {
                "gateway": service(a=(100, one.address)),
                "catalog": service(a=(100, two.address)),
            }
            users = gateway(free_port(), GatewayRoute("/", "gateway"))
            config = TrafficConfig(users, services, (inside,))
            await apply(traffic, config)
            await traffic.close()
            before = envoy_pid(tmp_path)
            os.kill(before, signal.SIGKILL)
            await eventually(lambda: envoy_pid(tmp_path) not in (0, before), "a new process")
            await eventually(lambda: answers(inside.port), "serves again, on its fallback")
            async with client(inside.port) as http:
                assert (await http.get("/")).json()["name"] == "two"
            await traffic.open()
            await apply(traffic, replace(config, gateway=None))

    run(test())


def envoy_pid(home: Path) -> int:
    """The Envoy that runs, 0 if none."""
    found = [Supervised(path).status() for path in home.glob("envoy/*")]
    alive = [status.child.pid for status in found if status and status.child]
    return next((pid for pid in alive if psutil.pid_exists(pid)), 0)


def test_a_restarted_control_plane_goes_on_without_a_failed_request(tmp_path: Path) -> None:
    async def test() -> None:
        async with Web("one").running() as one, Web("two").running() as two:
            port = free_port()
            async with opened(tmp_path) as traffic:
                web = service(a=(100, one.address), b=(0, two.address))
                config = TrafficConfig(gateway(port), {"web": web})
                await apply(traffic, config)
                before = traffic.observe().proxies
                async with Load(port).going() as outcomes:
                    await traffic.close()
                    await eventually(lambda: outcomes["200"] > 50)
                    again = EnvoyTraffic(tmp_path, lambda: None, drain_seconds=1)
                    await again.open()
                    assert again.observe().proxies == before, "known before the first look"
                    await eventually(lambda: outcomes["200"] > 100)
                    web = service(a=(0, one.address), b=(100, two.address))
                    status = await apply(again, replace(config, services={"web": web}))
                    assert status.proxies == before
                    seen = two.requests
                    await eventually(lambda: two.requests > seen + 20)
                only_200(outcomes)
                await again.close()

    run(test())


@pytest.mark.parametrize("found", ["another version's", "nothing"])
def test_what_envoy_was_told_may_be_unknown(tmp_path: Path, found: str) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            websocket_echo() as echo,
            opened(tmp_path) as traffic,
        ):
            port, applied = free_port(), tmp_path / "applied.json"
            inside = edge(traffic, "front", "web")
            services = {"web": service(a=(100, one.address)), "chat": service(a=(100, echo))}
            routes = (GatewayRoute("/", "web"), GatewayRoute("/chat", "chat"))
            config = TrafficConfig(gateway(port, *routes), services, (inside,))
            before = (await apply(traffic, config)).proxies
            async with (
                connect(f"ws://127.0.0.1:{port}/chat") as held,
                Load(port).going() as users,
                Load(inside.port).going() as callers,
            ):
                await traffic.close()
                applied.unlink()
                if found != "nothing":
                    applied.write_text('{"edges": [{"policy": {"of": "tomorrow"}}]}')
                again = EnvoyTraffic(tmp_path, lambda: None, drain_seconds=1)
                await again.open()
                assert edge(again, "front", "web") == inside, "callers have the port"
                assert (await apply(again, config)).proxies == before
                seen = users["200"]
                await eventually(lambda: users["200"] > seen + 500)
                await held.send("still")
                assert await held.recv() == "still"
                await again.close()
            only_200(users)
            only_200(callers)
            assert b"front" in applied.read_bytes()

    run(test())


def test_fifty_switches_under_load_fail_no_request(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            Web("two").running() as two,
            opened(tmp_path) as traffic,
        ):
            port = free_port()

            def config(turned: bool) -> TrafficConfig:
                a, b = (0, 100) if turned else (100, 0)
                found = service(a=(a, one.address), b=(b, two.address))
                wish = TrafficConfig(gateway(port), {"web": found})
                return draining(wish, "web", "a-1" if turned else "b-1")

            await apply(traffic, config(False))
            async with Load(port).going() as outcomes:
                for turn in range(50):
                    status = await apply(traffic, config(turn % 2 == 0))
                    await eventually(partial(sampled, traffic, status.acknowledged))
            only_200(outcomes)
            assert one.requests > 50 < two.requests

    run(test())


def sampled(traffic: EnvoyTraffic, generation: int) -> bool:
    return traffic.observe().sampled >= generation


def test_replacing_envoy_under_load_fails_no_request(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            websocket_echo() as echo,
            opened(tmp_path, drain_seconds=1) as traffic,
        ):
            port = free_port()
            routes = (GatewayRoute("/", "web"), GatewayRoute("/ws", "chat"))
            services = {"web": service(a=(100, one.address)), "chat": service(a=(100, echo))}
            config = TrafficConfig(gateway(port, *routes), services)
            await apply(traffic, config)
            pids = set(traffic.observe().proxies)
            async with Load(port).going() as outcomes:
                for _ in range(3):
                    async with connect(f"ws://127.0.0.1:{port}/ws") as talk:
                        replacing = asyncio.create_task(traffic.replace())
                        await eventually(lambda: len(traffic.observe().proxies) == 2)
                        await talk.send("still")
                        assert await talk.recv() == "still"
                    await apply(traffic, config)
                    await replacing
                    await eventually(lambda: len(traffic.observe().proxies) == 1)
                    pids |= set(traffic.observe().proxies)
            only_200(outcomes)
            assert len(pids) == 4

    run(test())


@pytest.mark.parametrize("victim", ["old", "new"])
def test_a_kill_in_the_middle_of_a_replacement(tmp_path: Path, victim: str) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            opened(tmp_path, drain_seconds=2) as traffic,
        ):
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            (old,) = (await apply(traffic, config)).proxies
            replacing = asyncio.create_task(traffic.replace())
            await eventually(lambda: len(traffic.observe().proxies) == 2)
            new = next(pid for pid in traffic.observe().proxies if pid != old)
            await eventually(lambda: has_ended_admin(tmp_path), "the new one has taken over")
            os.kill(old if victim == "old" else new, signal.SIGKILL)
            await replacing
            await eventually(lambda: len(traffic.observe().proxies) == 1)
            await eventually(lambda: answers(port))
            assert old not in traffic.observe().proxies
            assert (new in traffic.observe().proxies) == (victim == "old")
            await apply(traffic, config)

    run(test())


def test_a_replacement_interrupted_by_our_own_end_is_finished(tmp_path: Path) -> None:
    async def test() -> None:
        async with Web("one").running() as one:
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            traffic = EnvoyTraffic(tmp_path, lambda: None, drain_seconds=1)
            await traffic.open()
            (old,) = (await apply(traffic, config)).proxies
            replacing = asyncio.create_task(traffic.replace())
            await eventually(lambda: len(traffic.observe().proxies) == 2)
            replacing.cancel()
            await traffic.close()
            async with opened(tmp_path) as again:
                await apply(again, config)
                await eventually(lambda: len(again.observe().proxies) == 1)
                assert old not in again.observe().proxies
                assert await answers(port)

    run(test())


def test_a_killed_shim_is_replaced_together_with_its_envoy(tmp_path: Path) -> None:
    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            (pid,) = (await apply(traffic, config)).proxies
            async with Load(port).going() as outcomes:
                os.kill(parent_of(pid), signal.SIGKILL)
                await eventually(lambda: len(set(traffic.observe().proxies) - {pid}) == 1)
                await eventually(lambda: pid not in traffic.observe().proxies, "the old one ended")
            only_200(outcomes)
            (pid,) = traffic.observe().proxies
            os.kill(parent_of(pid), signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: set(traffic.observe().proxies) - {pid}, "another one")
            await eventually(lambda: answers(port))

    run(test())


def parent_of(pid: int) -> int:
    return psutil.Process(pid).ppid()


async def has_ended_admin(home: Path) -> bool:
    """Whether the first Envoy takes no new admin connection, since its successor is starting."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(home / "envoy" / "1" / "admin.sock"))
    except OSError:
        return await ready(home, 2)
    return False


async def ready(home: Path, number: int) -> bool:
    admin = Admin(home / "envoy" / str(number) / "admin.sock")
    try:
        return await admin.ready()
    finally:
        await admin.close()


def test_an_edge_that_goes_and_comes_back_listens_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            services = {"web": service(a=(100, one.address))}
            inside = edge(traffic, "front", "web")
            for _ in range(10):
                await apply(traffic, TrafficConfig(None, services, (inside,)))
                assert await answers(inside.port)
                keeper = edge(traffic, "other", "web")
                await apply(traffic, TrafficConfig(None, services, (keeper,)))
                assert await answers(keeper.port)

    run(test())


def test_requests_of_the_old_envoy_still_count(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Web("one").running() as one,
            opened(tmp_path, drain_seconds=30) as traffic,
        ):
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            await apply(traffic, config)
            async with client(port) as http:
                slow = asyncio.create_task(http.get("/slow"))
                await eventually(lambda: one.waiting == 1)
                replacing = asyncio.create_task(traffic.replace())
                await eventually(lambda: len(traffic.observe().proxies) == 2)
                status = await apply(traffic, draining(config, "web", "a-1"))
                await eventually(lambda: traffic.observe().sampled >= status.acknowledged)
                assert traffic.observe().in_flight == {"a-1": 1}
                one.release.set()
                assert (await slow).status_code == 200
            await eventually(lambda: not traffic.observe().in_flight, "drained")
            await replacing

    run(test())


def test_requests_still_count_when_a_caller_has_another_budget(tmp_path: Path) -> None:
    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            port, web = free_port(), {"web": service(a=(100, one.address))}
            await apply(traffic, TrafficConfig(gateway(port), web))
            async with client(port) as http:
                slow = asyncio.create_task(http.get("/slow"))
                await eventually(lambda: one.waiting == 1)
                caller = edge(traffic, "front", "web", Need(retry=Retry(budget=0.4)))
                config = TrafficConfig(gateway(port), web, (caller,))
                await apply(traffic, config)
                status = await apply(traffic, draining(config, "web", "a-1"))
                await eventually(lambda: traffic.observe().sampled >= status.acknowledged)
                assert traffic.observe().in_flight == {"a-1": 1}

                async def has_it() -> bool:
                    text = await told(known(tmp_path)[0], "/runtime?format=json")
                    key = "circuit_breakers.web~a.default.retry_budget.budget_percent"
                    found = json.loads(text)["entries"].get(key, {"final_value": ""})
                    return bool(found["final_value"] == "40")

                await eventually(has_it, "the budget is in force")
                one.release.set()
                assert (await slow).status_code == 200

    run(test())


def test_a_port_in_use_is_told_and_taken_once_it_is_free(tmp_path: Path) -> None:
    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path) as traffic:
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            with socket.socket() as stranger:
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                stranger.bind(("127.0.0.1", port))
                stranger.listen()
                with pytest.raises(VoleryError, match=f"port {port} is in use by .*{os.getpid()}"):
                    check_port("127.0.0.1", port)
                traffic.apply(config, 1)
                await eventually(lambda: traffic.observe().rejected, "told")
                said = str(traffic.observe().rejected)
                assert f"port {port} is in use by" in said
                assert "choose another gateway.port" in said
            await eventually(lambda: traffic.observe().acknowledged == 1, "taken")
            await eventually(lambda: answers(port))
            assert traffic.observe().rejected is None

    run(test())


def test_edge_ports_last(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path) as traffic:
            first = traffic.edge_port("front", "a", "web")
            second = traffic.edge_port("front", "b", "web")
            assert first != second
            assert traffic.edge_port("front", "a", "web") == first
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", second))
            stranger.listen()
            async with opened(tmp_path) as traffic:
                assert traffic.edge_port("front", "a", "web") == first
                assert traffic.edge_port("front", "b", "web") != second

    run(test())


def test_a_home_with_a_long_path(tmp_path: Path) -> None:
    async def test() -> None:
        home = tmp_path / ("long-" * 30)
        async with Web("one").running() as one, opened(home) as traffic:
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            await apply(traffic, config)
            assert await answers(port)
            assert (home / "ads.sock").stat().st_mode & 0o777 == 0o600
            assert home.stat().st_mode & 0o777 == 0o700
            for admin in home.glob("envoy/*/admin.sock"):
                assert admin.stat().st_mode & 0o777 == 0o600

    run(test())


def test_stop_lets_requests_finish_and_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with Web("one").running() as one, opened(tmp_path, drain_seconds=30) as traffic:
            port = free_port()
            config = TrafficConfig(gateway(port), {"web": service(a=(100, one.address))})
            await apply(traffic, config)
            (pid,) = traffic.observe().proxies
            async with client(port) as http:
                slow = asyncio.create_task(http.get("/slow"))
                await eventually(lambda: one.waiting == 1)
                stopping = asyncio.create_task(traffic.stop())
                await eventually(lambda: refused(port), "takes no new connection")
                one.release.set()
                assert (await slow).status_code == 200
            begun = time.monotonic()
            await stopping
            assert time.monotonic() - begun < 30
            assert not Path(f"/proc/{pid}").exists()
            assert traffic.observe().proxies == ()

    run(test())


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False
