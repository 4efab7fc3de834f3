"""One Envoy's admin interface, over its Unix socket; never TCP.

The connection is kept open on purpose: an Envoy that is being replaced closes its admin socket to
newcomers but goes on answering on connections it has, which is how its remaining requests can
still be counted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

TIMEOUT_SECONDS = 2.0
# It tells of every request at level INFO, and we look several times a second.
logging.getLogger("httpx2").setLevel(logging.WARNING)


@dataclass(frozen=True)
class HostCount:
    """What one upstream host has to do: requests, connections, and how many it ever had.

    `succeeded` and `failed` are attempts that ended; what the client gave up is in neither.
    """

    requests: int = 0
    connections: int = 0
    total: int = 0
    draining: bool = False
    succeeded: int = 0
    failed: int = 0
    total_connections: int = 0
    not_connected: int = 0


class AdminError(Exception):
    """The admin interface did not answer, or not with what was expected."""


class Admin:
    """A client of one Envoy's admin socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._directory = -1
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    async def ready(self) -> bool:
        """Whether it serves."""
        try:
            return (await self._get("/ready")).strip() == "LIVE"
        except AdminError:
            return False

    async def options(self) -> Mapping[str, Any]:
        """The command line it was started with, by option name."""
        info = json.loads(await self._get("/server_info"))
        options: Mapping[str, Any] = info["command_line_options"]
        return options

    async def hosts(self) -> Mapping[tuple[str, str], HostCount]:
        """By cluster and host name, what every upstream host has to do."""
        return read_hosts(await self._get("/clusters?format=json"))

    async def ask(self, path: str) -> str:
        """Whatever it answers to this path. Raises AdminError if it does not."""
        return await self._get(path)

    async def waiting(self) -> frozenset[str]:
        """Clusters with requests that wait for a connection, so belong to no host yet."""
        text = await self._get("/stats?filter=%5Ecluster%5C..*upstream_rq_pending_active%24")
        lines = (line.rpartition(": ") for line in text.splitlines())
        return frozenset(
            name.removeprefix("cluster.").removesuffix(".upstream_rq_pending_active")
            for name, _, value in lines
            if value != "0"
        )

    async def drain(self) -> None:
        """Take no new connection."""
        await self._send("POST", "/drain_listeners")

    async def quit(self) -> None:
        """End."""
        await self._send("POST", "/quitquitquit")

    async def _get(self, path: str) -> str:
        return await self._send("GET", path)

    async def _send(self, method: str, path: str) -> str:
        try:
            answer = await self._connected().request(method, path)
        except (httpx2.HTTPError, OSError) as error:
            raise AdminError(f"{self._socket.parent.name}: {error!r}") from error
        if path != "/ready" and answer.status_code != httpx2.codes.OK:
            raise AdminError(f"{self._socket.parent.name}: {path} answered {answer.status_code}")
        return answer.text

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            # A Unix socket's path is limited to 107 bytes; a directory's descriptor shortens it.
            self._directory = os.open(self._socket.parent, os.O_PATH | os.O_DIRECTORY)
            self._client = httpx2.AsyncClient(
                base_url="http://envoy",
                timeout=TIMEOUT_SECONDS,
                transport=httpx2.AsyncHTTPTransport(
                    uds=f"/proc/self/fd/{self._directory}/{self._socket.name}",
                    limits=httpx2.Limits(max_connections=1, keepalive_expiry=None),
                ),
            )
        return self._client


def read_hosts(text: str) -> dict[tuple[str, str], HostCount]:
    """What `/clusters` says: by cluster and host name."""
    return {
        (cluster["name"], host.get("hostname", "")): _count(host)
        for cluster in json.loads(text).get("cluster_statuses", ())
        for host in cluster.get("host_statuses", ())
    }


def _count(host: Mapping[str, Any]) -> HostCount:
    values = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats", ())}
    return HostCount(
        requests=values.get("rq_active", 0),
        connections=values.get("cx_active", 0),
        total=values.get("rq_total", 0),
        succeeded=values.get("rq_success", 0),
        failed=values.get("rq_error", 0),
        total_connections=values.get("cx_total", 0),
        not_connected=values.get("cx_connect_fail", 0),
        draining=host.get("health_status", {}).get("eds_health_status") == "DRAINING",
    )
