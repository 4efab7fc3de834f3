"""The control plane's process: opens the ports, runs the loop, serves the API, lets go at the end.

Crash-only: starting is recovering. It holds nothing that a `kill -9` could lose; ending it (also by
SIGTERM) stops no instance and no Envoy, they are adopted by the next one. A lock that the kernel
releases makes sure there is only one per environment.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from volery.api.app import create_app
from volery.api.home import Home
from volery.api.housekeeping import housekeeping
from volery.api.launch import launch
from volery.api.logs import LogLine, Logs, in_pieces
from volery.api.places import LogQuery
from volery.build.builder import LocalBuilder
from volery.build.release import release_id
from volery.calls import Calls, Settings
from volery.control.controller import Controller, Ports
from volery.control.operations import Operations
from volery.control.specs import instance_spec
from volery.decide.world import World
from volery.engines.local import LocalEngine
from volery.model.errors import VoleryError
from volery.model.ports import InstanceSpec
from volery.model.state import Event, Instance, Release
from volery.outside import OutsideWorld
from volery.store.files import hold
from volery.store.secrets import Secrets
from volery.store.sqlite import SqliteStore
from volery.store.volumes import Volumes
from volery.supervise.moments import pause
from volery.supervise.process import Supervised
from volery.traffic.addresses import check_port
from volery.traffic.envoy import EnvoyTraffic

LOOK_EVERY_SECONDS = 1.0
MAX_STEPS_AT_ONCE = 100
HOUSEKEEPING_EVERY_SECONDS = 60.0
LOCK_SECONDS = 3.0
DESCRIPTORS = 65_536
THREADS = 32
"""For what waits for disks, made as they are needed: a few that hang keep no others waiting."""
log = structlog.get_logger()


class SystemClock:
    """The machine's time."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class ControlPlane:
    """Everything of one environment's control plane, wired together."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.stopping = asyncio.Event()
        self.orphaned = False
        self._parent = os.getppid()
        self._woken = asyncio.Event()
        self._changed = asyncio.Condition()
        self._destroying: threading.Thread | None = None
        self._stuck = ""
        """The mistake at which the last looks ended."""
        self.secrets = Secrets(home.secrets)
        self._known: frozenset[str] = frozenset()
        self._read_at: tuple[int, int] | None = None
        self.store = SqliteStore(home.ledger)
        self.engine = LocalEngine(home.path, self.wake, hidden=self._hidden)
        self.traffic = EnvoyTraffic(home.path / "traffic", self.wake)
        self.builder = LocalBuilder(
            home.path,
            self.wake,
            base_env=self._base_env,
            hidden=self._secret_values,
            without=home.never_source,
        )
        calls = Calls(home.accounts, self._who_calls)
        self.outside = OutsideWorld(self.wake, calls, hidden=self._secret_values)
        ports = Ports(
            self.store, self.engine, self.traffic, self.builder, self.outside, SystemClock()
        )
        self.controller = Controller(ports, self._spec)
        self.operations = Operations(
            self.controller, self.builder, _Versions(self.secrets), release_id, self.wake
        )

    def wake(self) -> None:
        """Something may have changed: look again soon."""
        self._woken.set()

    def _spec(self, world: World, instance: Instance) -> InstanceSpec:
        return instance_spec(
            world, instance, self.home.path, self.traffic.edge_port, self.secrets.values
        )

    def _hidden(self) -> frozenset[str] | None:
        """Every secret that is or was set, also one that was lost with its file since; None where
        they cannot be read. Asked for at whatever an instance says, so they are read only once."""
        mark = self.secrets.mark()
        if mark is None or mark != self._read_at:
            try:
                self._known |= frozenset(self._secret_values())
            except VoleryError:
                return None
            self._read_at = mark
        return self._known

    def _base_env(self, release: Release) -> Mapping[str, str]:
        return self.operations.world.base_env_of(release)

    def _who_calls(self) -> Settings:
        environment = self.operations.world.environment
        if environment is None:
            return Settings()
        application = environment.application
        return Settings(application.accounts, application.is_production(environment.name))

    async def run(self) -> None:
        """Open everything, loop until told to stop, let go of everything."""
        async with AsyncExitStack() as stack:
            for part in (self.traffic, self.engine, self.builder, self.outside):
                await part.open()
                stack.push_async_callback(part.close)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._loop())
                tasks.create_task(self._serve())
                tasks.create_task(self._housekeep())
            if self.traffic.defect:  # its shim starts another one
                raise self.traffic.defect
            if self.controller.gone:
                await self.traffic.stop()

    async def _loop(self) -> None:
        while not self.stopping.is_set():
            self._woken.clear()
            if self.traffic.defect:
                self.stopping.set()
            self.look()
            self._leave_if_orphaned()
            async with self._changed:
                self._changed.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause(LOOK_EVERY_SECONDS)):
                    await self._woken.wait()

    def _leave_if_orphaned(self) -> None:
        """Without its shim nobody would restart this process: make room for one that has one."""
        if os.getppid() != self._parent and not self.stopping.is_set():
            log.warning("control_plane.orphaned", shim=self._parent)
            self.orphaned = True
            self.stopping.set()

    def look(self) -> None:
        """Look and act until nothing changes; what fails now is tried again at the next look."""
        try:
            for _ in range(MAX_STEPS_AT_ONCE):
                if not self.controller.tick():
                    self._stuck = ""
                    return
            log.warning("controller.restless", steps=MAX_STEPS_AT_ONCE)
        except VoleryError as error:
            log.error("controller.tick_failed", error=error.message, hint=error.hint)
        except Exception as error:
            log.exception("controller.tick_failed")
            self._tell_what_stops_it(f"{type(error).__name__}: {error}")

    def _tell_what_stops_it(self, mistake: str) -> None:
        """A mistake of ours, which comes again at every look, stops every service: nobody should
        have to find that in a log."""
        if mistake == self._stuck:
            return
        self._stuck = mistake
        text = f"nothing can be decided: {mistake}"
        event = Event(time.time(), "control_plane.stuck", text, cause="a defect of Volery")
        with suppress(VoleryError):
            self.store.commit([], [event])

    async def _serve(self) -> None:
        config = uvicorn.Config(
            create_app(self),
            log_config=None,
            access_log=False,
            lifespan="off",
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config, self.stopping)
        serving = asyncio.create_task(server.serve([_listen(self.home.socket)]))
        await self.stopping.wait()
        self.wake()
        async with self._changed:
            self._changed.notify_all()
        await serving

    async def _housekeep(self) -> None:
        while not self.stopping.is_set():
            try:
                housekeeping(self.controller, self.builder)
            except (VoleryError, OSError) as error:
                log.error("housekeeping.failed", error=str(error))
            await self._empty_trash()
            try:
                await asyncio.wait_for(self.stopping.wait(), HOUSEKEEPING_EVERY_SECONDS)
            except TimeoutError:
                continue

    async def _empty_trash(self) -> None:
        """Destroying has a thread that nobody waits for: a volume may be large. What is left when
        this process ends is destroyed by the next one."""
        trash = Volumes(self.home.volumes, self.home.trash)
        try:
            gone = await asyncio.to_thread(trash.empty, time.time())
            if gone:
                names = {volume.exact: None for volume in gone}
                self.operations.tell_of_volumes("expired", names, "")
        except (VoleryError, OSError) as error:
            log.error("volumes.not_purged", error=str(error))
        if self._destroying is None or not self._destroying.is_alive():
            self._destroying = threading.Thread(target=_destroy, args=(trash,), daemon=True)
            self._destroying.start()

    # --- what the API needs -----------------------------------------------------------------------

    def processes(self) -> dict[str, Any]:
        """Process ids of ours on this machine."""
        return {
            "control_plane": os.getpid(),
            "envoy": list(self.traffic.observe().proxies),
            "shims": sorted((*self.engine.shims(), *self.traffic.shims(), *self._own_shim())),
        }

    def _own_shim(self) -> tuple[int, ...]:
        status = Supervised(self.home.control).status()
        return (status.shim.pid,) if status and status.shim.alive() else ()

    def gateway_ready(self) -> bool:
        """Whether the gateway serves."""
        return self.traffic.observe().ready

    def check_gateway(self, host: str, port: int) -> None:
        """Raises VoleryError if somebody else listens there.

        Where our gateway listens or is coming back, the data plane itself says what is wrong.
        """
        environment = self.operations.world.environment
        if environment is not None and environment.running:
            gateway = environment.application.gateway
            if (gateway.host, gateway.port) == (host, port):
                return
        check_port(host, port)

    async def replace_gateway(self) -> None:
        """A new Envoy takes over; no connection is refused."""
        await self.traffic.replace()

    async def changed(self, seconds: float) -> None:
        """Return when the loop has looked again, or after this long."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait()
        except TimeoutError:
            return

    def logs(self, service: str, query: LogQuery) -> AsyncIterator[LogLine]:
        """What the instances of a service wrote, secrets masked."""
        self._secret_values()  # what cannot be read cannot be hidden
        logs = Logs(self.home.path, service, query, self._secret_values)
        logs.check()
        return logs.follow(self.stopping) if query.follow else in_pieces(logs.past())

    def _secret_values(self) -> list[str]:
        """Every secret that is or was set: what one service prints may be another one's."""
        return self.secrets.ever()


def _destroy(trash: Volumes) -> None:
    try:
        trash.finish()
    except (VoleryError, OSError) as error:
        log.error("volumes.not_purged", error=str(error))


class _Versions:
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def versions(self, names: tuple[str, ...]) -> Mapping[str, int]:
        return self._secrets.versions(names)


def _listen(path: Path) -> socket.socket:
    """A listening Unix socket, mode 0600 from its first moment, at a path of any length."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.umask(before)
        os.close(folder)
    listener.listen(128)
    return listener


class _Server(uvicorn.Server):
    """uvicorn would take SIGTERM for itself, and look ten times a second whether to end; here the
    control plane decides when to end, and says so."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def main_loop(self) -> None:
        """Until told."""
        await self.on_tick(0)
        await self._stopping.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _lock(home: Home) -> int:
    """The lock of the one control plane; released by the kernel however this process ends. Whoever
    deletes volumes has it for a moment too."""
    return hold(home.lock, LOCK_SECONDS, f"another control plane holds {home.lock}")


async def _main(home: Home) -> bool:
    """Run until told to end; true if that was because its shim is gone."""
    plane = ControlPlane(home)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, plane.stopping.set)
    log.info("control_plane.started", pid=os.getpid(), home=str(home.path))
    await plane.run()
    log.info("control_plane.ended", pid=os.getpid())
    return plane.orphaned


def allow_descriptors() -> None:
    """A few for each instance: the usual limit of 1,024 would do for some hundred of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """`python -m volery.api.daemon HOME`."""
    allow_descriptors()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    home = Home(Path(sys.argv[1]))
    try:
        lock = _lock(home)
        orphaned = asyncio.run(_main(home))
        os.close(lock)
        if orphaned:
            launch(home)
    except VoleryError as error:
        log.error("control_plane.cannot_run", error=error.message, hint=error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
