"""One Envoy's admin interface, over its Unix socket; never TCP.

The connection is kept open on purpose: an Envoy that is being replaced closes its admin socket to
newcomers but goes on answering on connections it has, which is how its remaining requests can
still be counted.

HTTP is spoken by hand: one server of our own, which answers plainly and is asked for ever.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 2.0
RETIRED_SECONDS = 10.0
"""The patience with one that takes no new connection: without this one it cannot be counted."""
OK = 200
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")
_CHUNKED = b"\r\ntransfer-encoding: chunked"


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
        self.patience = TIMEOUT_SECONDS
        """After so many seconds without an answer the connection is not used again."""
        self._socket = socket
        self._directory = -1
        self._turn = asyncio.Lock()
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def close(self) -> None:
        """Hang up."""
        self._hang_up()
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
            async with asyncio.timeout(self.patience), self._turn:
                status, body = await self._exchange(method, path)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise AdminError(f"{self._socket.parent.name}: {error!r}") from error
        if path != "/ready" and status != OK:
            raise AdminError(f"{self._socket.parent.name}: {path} answered {status}")
        return body.decode(errors="replace")

    async def _exchange(self, method: str, path: str) -> tuple[int, bytes]:
        """One question and its answer. A connection where that went wrong is not used again."""
        reader, writer = await self._connected()
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nhost: envoy\r\n\r\n".encode())
            return await _answer(reader)
        except BaseException:
            self._hang_up()
            raise

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connection is not None and self._connection[0].at_eof():
            self._hang_up()
        if self._connection is None:
            # A Unix socket's path is limited to 107 bytes; a directory's descriptor shortens it.
            if self._directory < 0:
                self._directory = os.open(self._socket.parent, os.O_PATH | os.O_DIRECTORY)
            place = f"/proc/self/fd/{self._directory}/{self._socket.name}"
            self._connection = await asyncio.open_unix_connection(place)
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection[1].close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of what is answered."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    if _CHUNKED not in head:
        length = _LENGTH.search(head)
        return status, await reader.readexactly(int(length[1]) if length else 0)
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return status, b"".join(pieces)


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
