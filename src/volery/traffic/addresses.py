"""The ports that Envoy listens on: are they free, and which ones do the edges have?

An edge's port is chosen once and written down, because callers have it in their environment. Since
Envoy shares its ports with its own successor (SO_REUSEPORT), another program of the same user could
share them too without anybody noticing; so a port is tried without sharing before it is given to
Envoy.
"""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Collection, Container
from contextlib import suppress
from pathlib import Path

import psutil

from volery.model.errors import Code, VoleryError
from volery.model.state import SlotName
from volery.supervise.ports import Reservation, hold, reserve
from volery.supervise.shim.files import read_document
from volery.traffic.files import write_atomically

ANOTHER = "choose another gateway.port"


def check_port(host: str, port: int, ours: Collection[int] = (), *, edge: bool = False) -> None:
    """Raise VoleryError, naming the holder, unless this address can be listened on.

    Args:
        ours: process ids that may hold it: our own Envoys.
        edge: whether it is the port of an edge, which nobody can choose.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A connection that ended a moment ago does not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holders = _holders(port) if error.errno == errno.EADDRINUSE else []
            if not holders or not set(holders) <= set(ours):
                raise _explained(host, port, error, holders, edge) from error


def listened_on(processes: Collection[int]) -> set[int]:
    """The ports that these processes listen on."""
    if not processes:
        return set()
    return {
        port
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in processes
        for port in connection.laddr[1:]
    }


def _explained(
    host: str, port: int, error: OSError, holders: Collection[int | None], edge: bool
) -> VoleryError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return VoleryError(
            f"port {port} is in use by {_names(holders)}",
            code=Code.CONFLICT,
            hint="stop it: callers have this port in their environment" if edge else ANOTHER,
            where=where,
        )
    if error.errno == errno.EACCES:
        return VoleryError(
            f"port {port} may not be listened on by this user",
            code=Code.REFUSED,
            hint=f"{ANOTHER} above 1023",
            where=where,
        )
    return VoleryError(
        f"cannot listen on {where}: {error.strerror}",
        code=Code.INVALID,
        hint="choose an address of this machine for gateway.host",
        where=where,
    )


def _holders(port: int) -> list[int | None]:
    """Who listens there; None is somebody we may not look at."""
    return [
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
    ]


def _names(holders: Collection[int | None]) -> str:
    for pid in holders:
        if pid is not None:
            with suppress(psutil.NoSuchProcess):
                return _name(psutil.Process(pid))
    return "another process"


def _name(process: psutil.Process) -> str:
    """A gateway of Volery by its environment: it runs in `<app>/<environment>/traffic`."""
    said = f"{process.name()} (pid {process.pid})"
    with suppress(psutil.AccessDenied):
        folder = Path(process.cwd())
        if process.name() == "envoy" and folder.name == "traffic":
            environment, app = folder.parent.name, folder.parent.parent.name
            return f"the gateway of environment {environment} of {app} (pid {process.pid})"
    return said


class EdgePorts:
    """Which edge has which port, for ever."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = {}
        self._reserved: list[Reservation] = []
        self._unwritten = False

    def open(self, ours: Container[int]) -> None:
        """Read what was chosen; a port that a stranger has taken meanwhile is chosen anew.

        Args:
            ours: ports that our own Envoy listens on, which nobody else can take now.
        """
        found = read_document(str(self._path)) or {}
        self._ports = dict(found)
        for name, port in found.items():
            if port not in ours:
                self._reserve(name, port)
            elif (held := hold(port)) is not None:
                self._reserved.append(held)
        self._unwritten = self._ports != found
        self._try_to_write()

    def port(self, caller: str, slot: SlotName, need: str) -> int:
        """The port of this edge."""
        name = f"{caller}/{slot}/{need}"
        if name not in self._ports:
            self._reserve(name, None)
            self._unwritten = True
        self._try_to_write()
        return self._ports[name]

    def write(self) -> None:
        """Write down what was chosen, if that could not be done when it was.

        Raises:
            OSError: it cannot be done now either.
        """
        if self._unwritten:
            content = json.dumps(self._ports, indent=1, sort_keys=True)
            write_atomically(self._path, content.encode())
            self._unwritten = False

    def __contains__(self, port: int) -> bool:
        """Whether some edge has this port."""
        return port in self._ports.values()

    def close(self) -> None:
        """Let go: what an Envoy listens on nobody can take as long as it does."""
        for reservation in self._reserved:
            reservation.close()
        self._reserved = []

    def _reserve(self, name: str, preferred: int | None) -> None:
        reservation = reserve(preferred)
        self._reserved.append(reservation)
        self._ports[name] = reservation.port

    def _try_to_write(self) -> None:
        """Not to have them on a full disk is no reason to do without edges now: see `write`."""
        with suppress(OSError):
            self.write()
