"""Volery's data plane without its control plane: a configuration in force while a block lasts.

So a peer that only restarts processes gets exactly the Envoy and the configuration that Volery's
own services have, and the gateway is measured alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from volery.model.ports import (
    Endpoint,
    GatewayRoute,
    GatewayTraffic,
    GroupTraffic,
    ServiceTraffic,
    TrafficConfig,
)
from volery.traffic.envoy import EnvoyTraffic
from volery.traffic.waiting import until

Protocol = Literal["http", "http2", "grpc", "tcp"]
START_SECONDS = 60.0


def service(protocol: Protocol, ports: Mapping[str, int]) -> ServiceTraffic:
    """A service with one group; `ports` by instance."""
    endpoints = tuple(Endpoint(name, f"127.0.0.1:{port}") for name, port in ports.items())
    return ServiceTraffic(protocol, {"a": GroupTraffic(100, endpoints), "b": GroupTraffic()})


def gateway(port: int, routes: Mapping[str, str]) -> GatewayTraffic:
    """A gateway on loopback; services by path."""
    found = tuple(GatewayRoute(path, name) for path, name in routes.items())
    return GatewayTraffic("127.0.0.1", port, found)


@contextmanager
def serving(home: Path, config: TrafficConfig) -> Iterator[None]:
    """Envoy does what the configuration says."""
    ready: Future[None] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(_serve(home, config, ready, stop)), name="traffic"
    )
    thread.start()
    try:
        ready.result(START_SECONDS)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def applied(traffic: EnvoyTraffic, config: TrafficConfig, generation: int) -> None:
    """Make this the configuration and wait until Envoy serves it.

    Raises:
        RuntimeError: Envoy refused it, or it took too long.
    """
    traffic.apply(config, generation)

    async def done() -> bool:
        status = traffic.observe()
        return bool(status.rejected) or (status.acknowledged >= generation and status.ready)

    came = await until(done, START_SECONDS)
    rejected = traffic.observe().rejected
    if rejected or not came:
        raise RuntimeError(rejected or "Envoy does not serve")


async def _serve(
    home: Path, config: TrafficConfig, ready: Future[None], stop: asyncio.Event
) -> None:
    traffic = EnvoyTraffic(home, lambda: None, drain_seconds=1.0)
    try:
        await traffic.open()
        await applied(traffic, config, 1)
        ready.set_result(None)
        await stop.wait()
    except BaseException as error:  # noqa: BLE001 - told to whoever waits
        ready.set_exception(error)
    finally:
        await traffic.stop()
