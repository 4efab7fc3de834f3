"""One instance on this machine: its folder, what is seen of it, and what is wished of it.

`look` turns what the shim wrote into an `Observation`; deaths are heard through pidfds before the
shim has written anything. Wishes are noted at once and carried out in the background. An instance
whose shim was killed (an *orphan*) serves on, but counts as not alive, so that it is replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from volery.engines.health import HealthWatch
from volery.engines.local.about import About
from volery.engines.local.beside import Beside
from volery.engines.local.usage import Tree, Usage
from volery.engines.local.volumes import Kept, identity_of
from volery.engines.probes import Target
from volery.engines.roles import RoleAsker, Said
from volery.model.errors import VoleryError
from volery.model.masking import Masking
from volery.model.ports import RESTARTS, Exit, InstanceSpec, Observation, RoleWatch, SideCommand
from volery.supervise import logs, orphan
from volery.supervise.death import DeathWatch
from volery.supervise.identity import Identity, environment_of
from volery.supervise.ports import reserve
from volery.supervise.process import Spec, Status, Supervised, Wish

State = Literal["starting", "ready", "unready", "stopping", "exited"]
HOST = "127.0.0.1"
RETRY_SECONDS = 1.0
WITHHELD = "(not shown: the secrets that may be in it cannot be read)"
Hidden = Callable[[], frozenset[str] | None]
"""Values never to be shown; None while they cannot be known, so that nothing may be shown."""


class Instance:
    """One instance; `changed` is called whenever `seen` differs from before."""

    def __init__(
        self, folder: Path, about: About, changed: Callable[[], None], hidden: Hidden
    ) -> None:
        self.id = folder.name
        self.about = about
        self.seen = Observation(self.id, "starting")
        self._supervised = Supervised(folder)
        self._changed = changed
        self._hidden = hidden
        self._wish = self._told = Wish()
        self._status: Status | None = None
        self._shim: DeathWatch | None = None
        self._child: DeathWatch | None = None
        self._child_alive = False
        self._health: HealthWatch | None = None
        self._roles: RoleAsker | None = None
        self._said = Said()
        self._role_watch = RoleWatch(0)
        self._beside = Beside(self._show, self._without_secrets)
        self._environment: Mapping[str, str] | None = None
        self._secrets: set[str] = set()
        self._masked: Set[str] = frozenset()
        self._masking = Masking(())
        self._launching = self._adopting = self._orphaned = self._cleared = False
        self._ended_at = 0.0
        self.unattended = asyncio.Event()
        """Its shim has gone, and was reaped if it was our child."""
        self._failure = ""
        self._usage: Usage | None = None
        self._volume = ""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # --- wishes ---

    def launch(self, spec: InstanceSpec, notify: Path, log_bytes: int) -> None:
        """Start it for the first time."""
        self._secrets |= spec.secrets
        self._launching = True
        self._spawn("launch", self._launch(spec, notify, log_bytes))

    def adopt(self) -> None:
        """Take over an instance that a former control plane started."""
        self._wish = self._told = self._supervised.wished()
        self._adopting = True
        self.look()
        self._adopting = False

    async def asked(self) -> None:
        """Wait until it is known whether it is ready; at once if nothing of it runs."""
        if self._health is not None:
            await self._health.asked.wait()
            if self._roles is not None:
                await self._roles.asked.wait()
            self._show()

    def settle(self) -> None:
        """From now on an exit is followed by another start."""
        self._wish = replace(self._wish, restart=True)
        self._carry_out()

    def stop(self) -> None:
        """End it and everything it started."""
        if self._wish.stop or self.seen.state == "exited":
            return
        self._wish = replace(self._wish, stop=True, grace=self.about.grace)
        self._show()
        self._carry_out()

    def kill(self) -> None:
        """End it and everything it started now."""
        if (self._wish.stop and self._wish.grace == 0.0) or self.seen.state == "exited":
            return
        self._wish = replace(self._wish, stop=True, restart=False, grace=0.0)
        if self._orphaned and self._running("end"):
            self._tasks.pop("end").cancel()
        self._show()
        self._carry_out()

    def watch_role(self, watch: RoleWatch) -> None:
        """How its role is to be asked for."""
        self._role_watch = watch
        if self._roles is not None:
            self._roles.watch(watch)

    def command(self, key: str, command: SideCommand) -> None:
        """Run a command beside it; not before it is known with which environment."""
        environment = self._known_environment()
        if environment and self._child_alive:
            self._beside.run(key, command, Path(self.about.directory), environment)

    async def close(self) -> None:
        """Let go of it without touching it."""
        await self._beside.close()
        if "launch" in self._tasks:
            await asyncio.wait([self._tasks["launch"]])
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for watch in (self._shim, self._child):
            if watch is not None:
                watch.close()

    def tail(self, lines: int) -> Sequence[str]:
        """The last lines it wrote, without secrets."""
        return shown(self._supervised.path, self._to_hide(), lines)

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._supervised.path

    @property
    def shim(self) -> int | None:
        """The process id of its shim, while that lives."""
        if self._shim is None or self.unattended.is_set():
            return None
        return self._shim.identity.pid

    @property
    def tree(self) -> Tree | None:
        """The processes that run for it."""
        if self._status is None or self._child is None or not self._child_alive:
            return None
        return Tree(self._status.shim.pid, self._child.identity.pid, self._status.cgroups)

    @property
    def kept(self) -> Kept | None:
        """The volume to be looked after while it runs; None if there is none, or not yet."""
        if self._launching or self.seen.state == "exited" or not self.about.volume:
            return None
        return Kept(self.about.volume, self.about.volume_identity)

    def note_volume(self, why: str) -> None:
        """What is wrong with its volume now."""
        if why != self._volume:
            self._volume = why
            self._show()

    def note(self, usage: Usage | None) -> None:
        """Show what it uses. That changes all the time, so nobody is told."""
        self._usage = usage
        self.seen = self._with_usage(self.seen)

    # --- carrying them out ---

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.get_running_loop().create_task(work)

    def _running(self, name: str) -> bool:
        return name in self._tasks and not self._tasks[name].done()

    async def _launch(self, spec: InstanceSpec, notify: Path, log_bytes: int) -> None:
        try:
            shim = await asyncio.to_thread(self._start, spec, notify, log_bytes)
        except VoleryError as error:
            self._failure = error.message
        except OSError as error:
            self._failure = f"cannot be started: {error}"
        else:
            self._watch_shim(shim)
        self._launching = False
        self.look()
        self._carry_out()

    def _start(self, spec: InstanceSpec, notify: Path, log_bytes: int) -> Identity:
        reserved = reserve()
        try:
            about = replace(self.about, port=reserved.port)
            environment = {**spec.environment, "PORT": str(reserved.port), "HOST": HOST}
            if spec.volume:
                about = _with_volume(about, Path(spec.volume))
            limits = spec.resources.model_dump(exclude_none=True)
            wanted = Spec(
                argv=spec.command,
                cwd=spec.directory,
                expand=True,
                limits=limits,
                grace=spec.stop.grace,
                log_bytes=log_bytes,
                notify=str(notify),
                about=about.as_json(),
            )
            shim = self._supervised.launch(wanted, environment, hold=(reserved.fd,))
        finally:
            reserved.close()
        self.about, self._environment = about, environment
        return shim

    def _carry_out(self) -> None:
        if self._launching or self._failure:
            return
        if self._orphaned:
            self._end_orphan()
        elif self._wish != self._told and not self._running("wish"):
            self._spawn("wish", self._tell())

    async def _tell(self) -> None:
        while self._wish != self._told:
            wish = self._wish
            try:
                await asyncio.to_thread(self._supervised.wish, wish)
            except OSError:  # a full disk: a stop was told by signal, the rest is tried again
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._told = wish

    # --- seeing ---

    def look(self) -> None:
        """Read what the shim wrote."""
        if self._launching:
            return
        status = self._supervised.status()
        if status is self._status and self._health is not None and self._roles is None:
            return  # whatever else is news of it has been shown
        if status is None and self._shim is None and not self._supervised.looked_after():
            self._failure = self._failure or _last_words(self.folder)
        if status is not None and not self._orphaned:
            self._status = status
            self._watch_shim(status.shim)
            if status.child != (self._child and self._child.identity):
                self._follow(status.child)
            elif self._health is None and self._child_alive:
                self._start_health()
        self._show()

    def _watch_shim(self, shim: Identity) -> None:
        if self._shim is None or self._shim.identity != shim:
            self._shim = DeathWatch(shim, self._shim_died)

    def _follow(self, child: Identity | None) -> None:
        if self._child is not None:
            self._child.close()
        self._stop_health()
        self._child, self._child_alive = None, child is not None
        if child is not None:
            self._child = DeathWatch(child, self._child_died)
            self._start_health()

    def _start_health(self) -> None:
        about, environment = self.about, self._known_environment()
        if about.port is None or environment is None:
            return
        self._secrets |= {environment[name] for name in about.secret_names if name in environment}
        target = Target(HOST, about.port, about.protocol, about.directory, environment)
        served = self._adopting and self._has_served()
        self._health = HealthWatch(about.health, target, self._show, been_ready=served)
        self._spawn("health", self._health.run())
        if about.role is not None:
            self._roles = RoleAsker(about.role, target, about.health.timeout, self._show)
            self._roles.watch(self._role_watch)
            self._spawn("roles", self._roles.run())

    def _has_served(self) -> bool:
        """Whether its process has been ready before we came. It is restarted by itself only once it
        has been; one that was restarted had its time to start again."""
        status = self._status
        if status is None or not self._wish.restart:
            return False
        return not status.restarts or time.time() - status.started_at > self.about.health.startup

    def _known_environment(self) -> Mapping[str, str] | None:
        """What it was started with, as far as that can be known of one that was adopted."""
        if self._environment is not None or self._child is None:
            return self._environment
        kept = self._supervised.environment()
        # Its shim is gone: the process itself may tell.
        return environment_of(self._child.identity.pid) or {} if kept is None else kept

    def _stop_health(self) -> None:
        if self._roles is not None:
            since = self._roles.said.unsure_since
            lost = time.monotonic() if since is None else since
            self._said = Said(position=self._roles.said.position, unsure_since=lost)
        self._health = self._roles = None
        for name in ("health", "roles"):
            if name in self._tasks:
                self._tasks[name].cancel()

    def _child_died(self) -> None:
        self._child_alive = False
        self._stop_health()
        self.look()
        if self._orphaned:
            self._end_orphan()

    def _shim_died(self) -> None:
        self.unattended.set()
        self.look()
        if self._status is None:
            self._failure = self._failure or _last_words(self.folder)
        elif self._status.phase != "ended":
            self._orphaned = True
            self._end_orphan()
        self._show()

    def _end_orphan(self) -> None:
        status = self._status
        wanted = self._stopping or not self._child_alive
        if status is None or not wanted or self._cleared or self._running("end"):
            return
        grace = self.about.grace if self._wish.grace is None else self._wish.grace
        self._spawn("end", self._clear(status, grace if self._stopping else 0.0))

    async def _clear(self, status: Status, grace: float) -> None:
        await orphan.end(self.folder, status, grace)
        self._cleared, self._ended_at = True, time.time()
        self._show()

    def _show(self) -> None:
        state, detail = self._state()
        status, port, said = self._status, self.about.port, self._what_it_said()
        seen = Observation(
            id=self.id,
            state=state,
            address=f"{HOST}:{port}" if port else None,
            pid=self._child.identity.pid if self._child and self._child_alive else None,
            started_at=status.started_at if status else 0.0,
            restarts=status.restarts if status else 0,
            alive=not self._orphaned and (self._health is None or self._health.alive),
            suspect=self._without_secrets(self._health.suspect) if self._health else "",
            hung=self._health is not None and self._health.hung,
            unkept=self._orphaned or bool(self._failure),
            detail=self._without_secrets(detail or _role_detail(state, said)),
            exit=self._exit(),
            role=said.role,
            position=said.position,
            asked_at=said.asked_at,
            unsure_since=said.unsure_since,
            volume=self._volume,
            volume_made=self.about.volume_made,
            commands=dict(self._beside.answers),
            exits=status.exits if status else (),
            enforced=status.enforced if status else {},
        )
        if seen.pid != self.seen.pid:
            self._usage = None
        seen = self._with_usage(seen)
        if seen != self.seen:
            self.seen = seen
            self._changed()

    def _what_it_said(self) -> Said:
        """About its role; a process that has not answered yet is as unknown as the one before."""
        if self.about.role is None:
            return Said(why="")
        if self._roles is None:
            return self._said
        said = self._roles.said
        if said.role is None and self._said.unsure_since is not None:
            return replace(said, position=self._said.position, unsure_since=self._said.unsure_since)
        return said

    def _with_usage(self, seen: Observation) -> Observation:
        used = self._usage
        return replace(
            seen,
            cpu_seconds=used.cpu_seconds if used else None,
            memory=used.memory if used else None,
            measured_at=used.at if used else None,
        )

    @property
    def _stopping(self) -> bool:
        return self._wish.stop or (self._status is not None and self._status.stop)

    def _state(self) -> tuple[State, str]:
        status = self._status
        if self._failure:
            return "exited", self._failure
        if status is not None and (status.phase == "ended" or self._cleared):
            return "exited", status.detail or str(self._exit() or "")
        if self._stopping:
            return "stopping", ""
        if status is None:
            return "starting", "its shim starts"
        if self._child_alive:
            return self._health_state(status)
        if not self._orphaned and (status.phase == "waiting" or status.restart):
            ended = self._exit()
            how = f"{ended}; it starts again" if ended else RESTARTS
            return "starting", status.detail or how
        return "stopping", "its process ended"

    def _health_state(self, status: Status) -> tuple[State, str]:
        health = self._health
        if self._orphaned:
            return ("ready" if health and health.ready else "unready"), "its shim died"
        if health is None:
            return "starting", ""
        if health.been_ready:
            return ("ready" if health.ready else "unready"), health.detail
        before = f"restarted after: {status.exits[-1]}; " if status.exits else ""
        return "starting", before + (health.detail or "not asked yet")

    def _exit(self) -> Exit | None:
        if self._status is None:
            return None
        if self._cleared and self._status.child is not None:
            return Exit(at=self._ended_at)
        return self._status.exits[-1] if self._status.exits else None

    def _to_hide(self) -> Set[str] | None:
        """All secrets of the environment, as others may have told it theirs, and what it was
        started with; None while the former cannot be known."""
        hidden = self._hidden()
        return None if hidden is None else hidden | self._secrets

    def _without_secrets(self, text: str) -> str:
        hidden = self._to_hide()
        if hidden is None:
            return text.partition(":")[0]
        if hidden != self._masked:
            self._masked, self._masking = hidden, Masking(hidden)
        return self._masking(text)


def _with_volume(about: About, volume: Path) -> About:
    """With its volume, made if there is none."""
    made = not volume.exists()
    volume.mkdir(parents=True, exist_ok=True, mode=0o700)
    return replace(about, volume_identity=identity_of(volume), volume_made=made)


def _role_detail(state: State, said: Said) -> str:
    """Why one that is healthy does not serve, or not for sure."""
    if state != "ready":
        return ""
    if said.unsure_since is not None:
        return f"role unknown: {said.why}"
    return "syncing" if said.role == "syncing" else ""


def shown(folder: Path, hidden: Set[str] | None, lines: int) -> Sequence[str]:
    """The last lines of a log, if it is known what to mask in them."""
    if hidden is None:
        return [WITHHELD]
    masking = Masking(hidden)
    return [masking(line.text) for line in logs.read(folder, lines=lines)]


def _last_words(folder: Path) -> str:
    try:
        said = (folder / "shim.log").read_text(errors="replace").strip()
    except OSError:
        said = ""
    return f"its shim did not start: {said.rpartition(chr(10))[2]}".removesuffix(": ")
