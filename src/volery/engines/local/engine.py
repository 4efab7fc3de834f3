"""The local engine: instances as supervised processes of this machine.

Every instance has a folder `home/instances/ID/` and a shim that outlives us. Opening the engine
adopts whatever runs, closing it lets go and ends nothing. Must be used from one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from volery.engines.local import archive, usage, volumes
from volery.engines.local.about import About
from volery.engines.local.instance import Hidden, Instance, shown
from volery.model.ports import InstanceSpec, Observation, RoleWatch, SideCommand
from volery.supervise.bell import Bell
from volery.supervise.moments import pause
from volery.supervise.process import Supervised

LOOK_SECONDS = 1.0
"""Between two looks at everything, in case a bell was not heard."""
ATTENDED_SECONDS, OTHERS_SECONDS = 1.0, 5.0
"""Between two measurements of what the instances of a service use."""
VOLUME_SECONDS = 1.0
"""Between two looks at all volumes."""
LOG_BYTES = 8 * 1024 * 1024
AT_ONCE = 16
FIRST_ANSWER_SECONDS = 3.0
"""How long adopting waits to know what is ready; a hanging instance is found out later."""
BEGIN_SECONDS = 5.0
log = logging.getLogger(__name__)


class LocalEngine:
    """Implements the port `Engine` with processes of this machine.

    Args:
        hidden: values never to be shown in what instances say; asked for whenever something is.
    """

    def __init__(
        self,
        home: Path,
        wake: Callable[[], None],
        *,
        hidden: Hidden = frozenset,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self._home = home
        self._wake = wake
        self._hidden = hidden
        self._log_bytes = log_bytes
        self._instances: dict[str, Instance] = {}
        self._bell = Bell(home / "bell", self._rung)
        self._attended: frozenset[str] = frozenset()
        self._role_watches: Mapping[str, RoleWatch] = {}
        self._looks = volumes.Looks()
        self._starts = volumes.Looks()
        self._all_at = time.monotonic() + OTHERS_SECONDS
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Adopt every instance there is."""
        self._folders.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._bell.open()
        limit = asyncio.Semaphore(AT_ONCE)
        folders = sorted(path for path in self._folders.iterdir() if path.is_dir())
        async with asyncio.TaskGroup() as group:
            for folder in folders:
                group.create_task(self._adopt(folder, limit))
        # Whoever looks first must not take what served all along for not ready.
        asked = [asyncio.create_task(item.asked()) for item in self._instances.values()]
        if asked:
            await asyncio.wait(asked, timeout=FIRST_ANSWER_SECONDS)
        for task in asked:
            task.cancel()
        self._later(_again_and_again(self._look_at_all, LOOK_SECONDS))
        self._later(_again_and_again(self._measure_those_due, ATTENDED_SECONDS))
        self._later(_again_and_again(self._look_at_volumes, VOLUME_SECONDS))

    async def close(self) -> None:
        """Let go of everything; all instances run on."""
        self._bell.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(instance.close() for instance in self._instances.values()))
        self._instances.clear()

    def observe(self) -> Mapping[str, Observation]:
        """Every instance it knows of, by id."""
        return {identity: instance.seen for identity, instance in self._instances.items()}

    def attend(self, services: frozenset[str]) -> None:
        """Measure what the instances of these services use once a second, of others rarely."""
        self._attended = services

    def start(self, spec: InstanceSpec) -> None:
        """Run this instance, unless it is known.

        Raises:
            VoleryError: it could not write its volume.
        """
        if spec.id in self._instances:
            return
        if spec.volume:
            self._starts.require_writable(Path(spec.volume))
        instance = Instance(self._folders / spec.id, About.of(spec), self._wake, self._hidden)
        self._instances[spec.id] = instance
        self._watch_role(instance)
        instance.launch(spec, self._bell.path, self._log_bytes)

    def settle(self, instance: str) -> None:
        """From now on restart the instance by itself when it exits."""
        if instance in self._instances:
            self._instances[instance].settle()

    def stop(self, instance: str) -> None:
        """SIGTERM, grace, SIGKILL of the whole tree."""
        if instance in self._instances:
            self._instances[instance].stop()

    def kill(self, instance: str) -> None:
        """SIGKILL of the whole tree, now."""
        if instance in self._instances:
            self._instances[instance].kill()

    def watch_roles(self, services: Mapping[str, RoleWatch]) -> None:
        """Ask the instances of these services for their role."""
        if services == self._role_watches:
            return
        self._role_watches = dict(services)
        for instance in self._instances.values():
            self._watch_role(instance)

    def command(self, instance: str, key: str, command: SideCommand) -> None:
        """Run this beside the instance, once for each key."""
        if instance in self._instances:
            self._instances[instance].command(key, command)

    def _watch_role(self, instance: Instance) -> None:
        watch = self._role_watches.get(instance.about.service)
        if watch is not None and instance.about.role is not None:
            instance.watch_role(watch)

    def forget(self, instance: str) -> None:
        """Drop an *exited* instance; its log is kept for a while."""
        known = self._instances.get(instance)
        if known is None or known.seen.state != "exited":
            return
        del self._instances[instance]
        archive.keep(self._home, known.about.service, instance, known.folder)
        self._later(self._clean_up(known))

    def tail(self, instance: str, lines: int = 20) -> Sequence[str]:
        """The last lines it wrote, secrets masked; also after `forget`, while they are kept."""
        if instance in self._instances:
            return self._instances[instance].tail(lines)
        kept = archive.find(self._home, instance)
        return [] if kept is None else shown(kept, self._hidden(), lines)

    def shims(self) -> tuple[int, ...]:
        """The process ids of the shims."""
        found = (instance.shim for instance in self._instances.values())
        return tuple(sorted(pid for pid in found if pid is not None))

    @property
    def _folders(self) -> Path:
        return self._home / "instances"

    async def _adopt(self, folder: Path, limit: asyncio.Semaphore) -> None:
        async with limit:
            supervised = Supervised(folder)
            if not await _begun(supervised):
                await asyncio.to_thread(shutil.rmtree, folder)
                return
            about = About.read(await asyncio.to_thread(supervised.about))
        instance = Instance(folder, about, self._wake, self._hidden)
        self._instances[folder.name] = instance
        instance.adopt()

    async def _look_at_all(self) -> None:
        for instance in list(self._instances.values()):
            instance.look()

    async def _measure_those_due(self) -> None:
        everybody = time.monotonic() >= self._all_at
        self._all_at += OTHERS_SECONDS if everybody else 0.0
        await self._measure(None if everybody else self._attended)

    async def _measure(self, services: frozenset[str] | None) -> None:
        trees = {
            identity: tree
            for identity, instance in self._instances.items()
            if (services is None or instance.about.service in services) and (tree := instance.tree)
        }
        used = await asyncio.to_thread(usage.measure, trees) if trees else {}
        for identity, tree in trees.items():
            instance = self._instances.get(identity)
            if instance is not None and instance.tree == tree:
                instance.note(used.get(identity))

    async def _look_at_volumes(self) -> None:
        kept = {key: item.kept for key, item in self._instances.items() if item.kept}
        found = await asyncio.to_thread(self._looks.troubles, kept) if kept else {}
        for identity, why in found.items():
            instance = self._instances.get(identity)
            if instance is not None and instance.kept == kept[identity]:
                instance.note_volume(why)

    async def _clean_up(self, instance: Instance) -> None:
        try:
            await asyncio.to_thread(archive.prune, self._home, instance.about.service)
            if instance.shim is not None:
                await instance.unattended.wait()
        finally:
            await instance.close()

    def _rung(self, name: str) -> None:
        if name in self._instances:
            self._instances[name].look()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _again_and_again(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """A defect of one round must not end all later ones."""
    while True:
        await asyncio.sleep(pause(seconds))
        try:
            await work()
        except Exception:
            log.exception("a round of looking at instances failed")


async def _begun(supervised: Supervised) -> bool:
    """False if our predecessor was killed before the shim began: nothing of it ever ran.

    A shim that is just starting is waited for: the lock may also be held, for a moment, by a copy
    that the start of another shim inherited.
    """
    deadline = time.monotonic() + BEGIN_SECONDS
    while await asyncio.to_thread(supervised.status) is None:
        if not await asyncio.to_thread(supervised.looked_after):
            return await asyncio.to_thread(supervised.status) is not None
        if time.monotonic() > deadline:
            return True
        await asyncio.sleep(0.01)
    return True
