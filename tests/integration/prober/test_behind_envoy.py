"""A real Envoy that drains its connections under load loses nothing, and the prober agrees.

Draining makes Envoy say `Connection: close` and GOAWAY on live connections: a prober that were
wrong about either would count losses here.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.prober.birds import birds
from integration.prober.http2_server import Http2Server
from integration.prober.servers import Http1Server, closed_port, in_thread, listening
from websockets.asyncio.server import ServerConnection, serve

from volery.prober import Kind, ProbePlan, Stream, probing
from volery.traffic.proxy import envoy_binary


@asynccontextmanager
async def _echo() -> Any:
    async def repeat(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(repeat, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, Any]:
    http2 = {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    }
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        **(http2 if name in ("http2", "grpc") else {}),
    }


def _config(upstreams: dict[str, int]) -> dict[str, Any]:
    prefixes = {"/b.B/": "grpc", "/http2": "http2", "/ws": "ws", "/dead": "dead", "/": "http1"}
    routes = [
        {"match": {"prefix": prefix}, "route": {"cluster": name}}
        for prefix, name in prefixes.items()
    ]
    connection_manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    filters = [{"name": "http", "typed_config": connection_manager}]
    listener = {"address": _address(0), "filter_chains": [{"filters": filters}]}
    clusters = [_cluster(name, number) for name, number in upstreams.items()]
    return {
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


@contextmanager
def _envoy(folder: Path, upstreams: dict[str, int]) -> Iterator[tuple[int, int]]:
    config, admin_address = folder / "envoy.json", folder / "admin"
    config.write_text(json.dumps(_config(upstreams)))
    command = [envoy_binary(), "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--drain-time-s", "2", "--admin-address-path", str(admin_address)],
            stdout=log,
            stderr=log,
        )
    try:
        yield _ports_when_ready(process, admin_address, folder / "envoy.log")
    finally:
        process.kill()
        process.wait()


def _ports_when_ready(
    process: subprocess.Popen[bytes], admin_address: Path, log: Path
) -> tuple[int, int]:
    while process.poll() is None:
        try:
            admin = admin_address.read_text()
            with urllib.request.urlopen(f"http://{admin}/ready", timeout=5):
                pass  # anything but 200 is an error
            with urllib.request.urlopen(f"http://{admin}/listeners?format=json") as answer:
                listener = json.load(answer)["listener_statuses"][0]
        except (OSError, LookupError):
            time.sleep(0.02)
            continue
        port = listener["local_address"]["socket_address"]["port_value"]
        return port, int(admin.rpartition(":")[2])
    pytest.fail(f"envoy ended with {process.returncode}: {log.read_text()[-2000:]}")


@contextmanager
def _upstreams() -> Iterator[dict[str, int]]:
    with (
        in_thread(listening(Http1Server("none"))) as http1,
        in_thread(listening(Http2Server())) as http2,
        in_thread(_echo()) as websocket,
        birds() as grpc,
        closed_port() as dead,
    ):
        yield {"http1": http1, "http2": http2, "ws": websocket, "grpc": grpc, "dead": dead}


def _plan(port: int) -> ProbePlan:
    url = f"http://127.0.0.1:{port}"
    talk = {"payload": b"wren {n}", "echo": True}
    return ProbePlan(
        (
            Stream(Kind.HTTP1, url + "/", 100, connections=8),
            Stream(Kind.HTTP1_FRESH, url + "/", 50),
            Stream(Kind.HTTP2, url + "/http2", 100, connections=4),
            Stream(Kind.GRPC, url + "/b.B/Echo", 50, connections=4, **talk),  # type: ignore[arg-type]
            Stream(Kind.GRPC_BIDI, url + "/b.B/Talk", 5, span=1.0, **talk),  # type: ignore[arg-type]
            Stream(Kind.UPLOAD, url + "/", 5, span=1.0),
            Stream(Kind.DOWNLOAD, url + "/", 5, span=0.5),
            Stream(Kind.WEBSOCKET, url + "/ws", 50, connections=4),
        ),
        seconds=600,
    )


def test_a_draining_envoy_loses_nothing(tmp_path: Path) -> None:
    with _upstreams() as upstreams, _envoy(tmp_path, upstreams) as (port, admin):
        with probing(_plan(port)) as running:
            running.wait_for(5)
            drain = f"http://127.0.0.1:{admin}/drain_listeners?graceful&skip_exit"
            with urllib.request.urlopen(urllib.request.Request(drain, method="POST")) as answer:
                assert answer.status == 200
            running.wait_for(15)
        report = running.report
    assert report.lost == 0, report.render()
    retired = {stream.name: stream.retired for stream in report.streams}
    assert retired["http1"] > 0 and retired["http2"] > 0, retired
    assert report.versions.keys() == {"demo@1", "birds@1"}


def test_an_unreachable_upstream_is_counted_in_envoys_own_words(tmp_path: Path) -> None:
    with _upstreams() as upstreams, _envoy(tmp_path, upstreams) as (port, _):
        url = f"http://127.0.0.1:{port}/dead"
        kinds = (Kind.HTTP1, Kind.HTTP1_FRESH, Kind.HTTP2, Kind.GRPC, Kind.WEBSOCKET)
        plan = ProbePlan(tuple(Stream(kind, url, 40) for kind in kinds), 0.5, "constant")
        with probing(plan) as running:
            report = running.report
    causes = {stream.name: dict(stream.causes) for stream in report.streams}
    assert causes == {kind: {"grpc_14" if kind == "grpc" else "status_503": 20} for kind in kinds}
    assert "upstream connect error" in report.samples[0].detail
