"""What people and scripts can ask of an environment; each refuses clearly or changes documents.

An operation returns as soon as its wish is durable; the controller carries it out. Nothing here
waits for instances, and nothing here can be half done: documents and events are committed in one
transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from volery.control.begin import begin
from volery.control.controller import Controller
from volery.control.draft import Draft
from volery.control.guarding import release_brakes, stop_automation
from volery.control.rollouts import record, supersede, turn_round
from volery.control.volumes import Deed, note_deeds
from volery.decide import submit
from volery.decide.gateway import applied, awaited_by
from volery.decide.order import ordering_needs
from volery.decide.plan import Step, make_plan
from volery.decide.reversal import reverse
from volery.decide.stateful import by_hand
from volery.decide.submit import Order
from volery.decide.world import World
from volery.manifest.load import FILE_NAME
from volery.model.application import Application, Service
from volery.model.errors import Code, VoleryError
from volery.model.guard import Brake
from volery.model.state import EnvironmentState, Phase, Release, Rollout

RELEASES_NAMED_MAX = 5
ReleaseId = Callable[[str, str, Service, Mapping[str, int]], str]


class Artifact(Protocol):
    """The built or still to be built source of one service."""

    @property
    def digest(self) -> str:
        """Names its content."""


class Sources(Protocol):
    """Makes artifacts; implemented by the builder."""

    def prepare(
        self, name: str, service: Service, root: Path, without: Collection[Path]
    ) -> Awaitable[Artifact]:
        """Copy the source to where it will be built, and name it; `without` is no source."""

    def digest(
        self, name: str, service: Service, root: Path, without: Collection[Path]
    ) -> Awaitable[str]:
        """Only name it."""


class SecretVersions(Protocol):
    """Which version of which secret is set."""

    def versions(self, names: tuple[str, ...]) -> Mapping[str, int]:
        """Version by name, of those that are set."""


@dataclass(frozen=True)
class Request:
    """A manifest and how to apply it. `only` names the services of a deploy; None means all."""

    application: Application
    environment: str
    root: Path
    manifest: str = FILE_NAME
    """Name of its file in `root`."""
    base_env: Mapping[str, str] = field(default_factory=dict)
    by: str = ""
    only: tuple[str, ...] | None = None
    strategy: str | None = None
    skip_tests: bool = False
    release: str | None = None
    force: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of the manifest. They are no source: what they mean for a release is part of it."""
        return tuple(self.root / name for name in (self.manifest, *self.application.include))


@dataclass(frozen=True)
class Accepted:
    """What was begun: the plan and the rollouts that carry it out, also those begun before."""

    plan: tuple[Step, ...]
    rollouts: tuple[str, ...]


class Operations:
    """The verbs of the CLI and the API, on one environment."""

    def __init__(
        self,
        controller: Controller,
        sources: Sources,
        secrets: SecretVersions,
        release_id: ReleaseId,
        wake: Callable[[], None],
    ) -> None:
        self._controller = controller
        self._sources = sources
        self._secrets = secrets
        self._release_id = release_id
        self._wake = wake
        self._submitting = asyncio.Lock()

    @property
    def world(self) -> World:
        """Everything as it is now."""
        return self._controller.draft().world

    def check(self, request: Request) -> None:
        """Refuse what cannot be done at all.

        Raises:
            VoleryError: an unknown service, an engine that is not active, wrong options.
        """
        chosen_of(request)

    async def plan(self, request: Request) -> tuple[Step, ...]:
        """What `apply` would do, without doing it."""
        chosen = chosen_of(request)
        releases = await self._releases(request, chosen, copy=False)
        world = self.world
        _require_needs(world, request, releases)
        return self._plan(world, request, releases)

    def _plan(
        self, world: World, request: Request, releases: Mapping[str, Release]
    ) -> tuple[Step, ...]:
        return make_plan(
            world,
            request.application,
            releases,
            request.only,
            force=request.force,
            histories=self._controller.histories(),
        )

    async def apply(self, request: Request) -> Accepted:
        """Bring services to what manifest and source say: `up`, or `deploy` with `only`.

        Raises:
            VoleryError: a source that cannot be copied, a secret that is not set, a rollout to
                another release under way.
        """
        async with self._submitting:
            chosen = chosen_of(request)
            self._require_secrets(request, chosen)
            if request.release is not None:
                releases = {chosen[0]: self._existing(chosen[0], request.release)}
            else:
                releases = await self._releases(request, chosen, copy=True)
            return self._submit(request, releases)

    def _submit(self, request: Request, releases: Mapping[str, Release]) -> Accepted:
        draft = self._controller.draft()
        if request.only is not None:
            _require_running(draft.world, request.environment)
        _require_needs(draft.world, request, releases)
        plan = self._plan(draft.world, request, releases)
        order = _order(request, draft.now)
        found = submit.submit(draft.world, request.application, plan, releases, order)
        _put_environment(draft, request)
        for release in found.releases:
            self._controller.ports.builder.cancel(release.id)
            draft.put("release", release.id, release)
        for service in found.services:
            draft.put("service", service.name, service)
        for old, new in found.superseded:
            supersede(draft, old, new)
        for item in found.rollouts:
            begin(draft, item)
        under_way = [draft.world.newest_rollout_of(step.service) for step in plan]
        self._commit(draft)
        return Accepted(plan, tuple(item.id for item in under_way if item is not None))

    def _existing(self, service: str, wanted: str) -> Release:
        name = wanted if "@" in wanted else f"{service}@{wanted}"
        newest = sorted(self.world.releases.values(), key=lambda r: r.created_at, reverse=True)
        kept = [item for item in newest if item.service == service and item.state != "gone"]
        found = [item for item in kept if item.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        several = f"{wanted} may be {' or '.join(item.id for item in found)}"
        known = ", ".join(item.id for item in kept[:RELEASES_NAMED_MAX])
        raise VoleryError(
            several if found else f"no release {wanted} of {service}",
            code=Code.NOT_FOUND,
            hint=f"volery releases {service}" + (f": {known}" if known else ""),
        )

    async def _releases(
        self, request: Request, chosen: Collection[str], *, copy: bool
    ) -> dict[str, Release]:
        """The release that each service's present source and configuration make."""
        names = list(chosen)
        digests = await asyncio.gather(*(self._digest(request, name, copy) for name in names))
        made = (
            self._release(request, name, digest)
            for name, digest in zip(names, digests, strict=True)
        )
        return {release.service: release for release in made}

    async def _digest(self, request: Request, name: str, copy: bool) -> str:
        service = request.application.services[name]
        if not copy:
            return await self._sources.digest(name, service, request.root, request.files)
        return (await self._sources.prepare(name, service, request.root, request.files)).digest

    def _release(self, request: Request, name: str, digest: str) -> Release:
        service = request.application.services[name]
        versions = dict(self._secrets.versions(service.secrets))
        identity = self._release_id(name, digest, service, versions)
        now = self._controller.ports.clock.now()
        return Release(identity, name, digest, service, now, request.by, secret_versions=versions)

    def _require_secrets(self, request: Request, chosen: Collection[str]) -> None:
        for name in chosen:
            wanted = request.application.services[name].secrets
            missing = sorted(set(wanted) - set(self._secrets.versions(wanted)))
            if missing:
                raise VoleryError(
                    f"secret {missing[0]} of {name} is not set",
                    hint=f"volery secret set {missing[0]}",
                    where=f"services.{name}.secrets",
                )

    def rollback(self, service: str, to: str | None, by: str) -> tuple[str, str]:
        """Begin going back to an earlier release; returns a rollout's id ("" where that release
        serves already) and that release.

        A rollout under way is turned round; its id is returned, and if a still earlier release is
        wanted, that rollback follows in the same group.
        """
        draft = self._changeable(service)
        order = Order("rollback", by, draft.now)
        running = draft.world.rollout_of(service)
        if running is None:
            serves = submit.serves_already(draft.world, service, to)
            if serves:
                return "", serves
            rollout = submit.rollback(draft.world, service, to, order)
            return self._start(draft, rollout), rollout.to_release
        state = submit.known(draft.world, service)
        for later in list(draft.world.active_rollouts()):
            if later.service == service and later.id != running.id:  # it has not begun
                turn_round(draft, later, f"rollback asked for by {by or 'a person'}")
        found = reverse(draft.world, state, running, to, order)
        draft.put("service", service, found.service)
        record(draft, running, found.rollout)
        self._commit(draft)
        return running.id, found.release

    def restart(self, service: str, by: str) -> str:
        """Begin replacing every instance by a fresh one; returns the rollout's id."""
        draft = self._changeable(service)
        order = Order("restart", by, draft.now)
        return self._start(draft, submit.restart(draft.world, service, order))

    def _start(self, draft: Draft, rollout: Rollout) -> str:
        begin(draft, rollout)
        self._commit(draft)
        return rollout.id

    def scale(self, service: str, count: int, by: str, *, force: bool = False) -> None:
        """Another number of instances, by hand; the next `up` brings back the manifest's. Fewer
        than its floor only with `force`.
        """
        draft = self._changeable(service)
        before = draft.world.services[service].scale
        draft.put("service", service, submit.scale(draft.world, service, count, force=force))
        text = f"{service}: {before} -> {count} instances"
        draft.event("service.scaled", text, service=service, cause=f"asked for by {by}")
        self._commit(draft)

    def switchover(self, service: str, to: str | None, by: str) -> int:
        """Begin to make a replica the primary, by hand; returns the handover's number."""
        draft = self._changeable(service)
        tenure = by_hand(draft.world, draft.world.services[service], by, to, draft.now)
        draft.put("tenure", service, tenure)
        wanted = f" to {to}" if to else ""
        draft.event(
            "state.switchover",
            f"{service}: the primary is switched over from {tenure.primary}{wanted}",
            service=service,
            instance=tenure.primary,
            cause=f"asked for by {by or 'a person'}",
        )
        self._commit(draft)
        return tenure.numbers

    def act(self, service: str, verb: str, by: str, *, full: bool = False) -> str:
        """`abort`, `pause`, `resume` or `promote` the rollout of a service; returns its id.

        `promote` lets the present step pass, whatever the evidence, the gates and the approval it
        waits for say; with `full` every step that is left. `resume` of a service that has no paused
        rollout but is braked lets its automation go on instead; the id is "" then.
        """
        submit.known(self.world, service)
        if verb == "resume" and self._only_braked(service):
            self.release(service, by)
            return ""
        asked = f"{verb} asked for by {by or 'a person'}"
        identity = self._controller.act(service, verb, asked, full=full)
        self._wake()
        return identity

    def _only_braked(self, service: str) -> bool:
        world = self.world
        rollout = world.rollout_of(service)
        paused = rollout is not None and rollout.phase is Phase.PAUSED
        return not paused and any(item.scope == service for item in world.guard.brakes)

    def release(self, scope: str, by: str) -> list[Brake]:
        """Let the automation of a service (or with `EVERYTHING` all) go on."""
        draft = self._controller.draft()
        gone = release_brakes(draft, scope, by)
        self._commit(draft)
        return gone

    def stop_automation(self, scope: str, seconds: float | None, by: str) -> Brake:
        """Stop the automation of a service (or with `EVERYTHING` all) for a while."""
        draft = self._controller.draft()
        found = stop_automation(draft, scope, seconds, by)
        self._commit(draft)
        return found

    def tell_of_volumes(self, deed: Deed, volumes: Mapping[str, float | None], by: str) -> None:
        """Write down what was done with volumes; see `control.volumes.note_deeds`."""
        draft = self._controller.draft()
        note_deeds(draft, deed, volumes, by)
        self._commit(draft)

    def down(self, by: str) -> None:
        """Take everything of this environment down, callers before what they call."""
        draft = self._controller.draft()
        environment = draft.world.environment
        if environment is None or not environment.running:
            return
        draft.put("environment", "environment", replace(environment, running=False))
        draft.event("environment.down", "everything is being stopped", cause=f"asked for by {by}")
        self._commit(draft)

    @property
    def gone(self) -> bool:
        """Whether nothing runs any more after `down`, and nobody is about to change that."""
        return self._controller.gone and not self._submitting.locked()

    def _changeable(self, service: str) -> Draft:
        """A draft in which something of a service is changed by hand. What is being taken down, or
        was, would not come up for that.

        Raises:
            VoleryError: NOT_FOUND, it is unknown; CONFLICT, the environment is not up.
        """
        draft = self._controller.draft()
        submit.known(draft.world, service)
        environment = draft.world.environment
        assert environment is not None
        _require_running(draft.world, environment.name)
        return draft

    def _commit(self, draft: Draft) -> None:
        draft.commit()
        self._wake()


def chosen_of(request: Request) -> list[str]:
    """The services that a request is about.

    Raises:
        VoleryError: NOT_FOUND, one is unknown; REFUSED, the engine is not active; INVALID.
    """
    names = list(request.application.services)
    engine = request.application.environments[request.environment].engine
    if engine != "local":
        raise VoleryError(
            f"the {engine} engine of environment {request.environment} is not active yet",
            code=Code.REFUSED,
            hint="use an environment with engine: local",
            where=f"environments.{request.environment}.engine",
        )
    for name in request.only or ():
        if name not in names:
            raise submit.unknown_service(name, names)
    if request.release is not None and len(request.only or ()) != 1:
        raise VoleryError(
            "--release goes with exactly one service",
            code=Code.INVALID,
            hint=f"volery deploy SERVICE --release {request.release}",
        )
    return [name for name in names if request.only is None or name in request.only]


def _order(request: Request, now: float) -> Order:
    return Order(
        "up" if request.only is None else "deploy",
        request.by,
        now,
        request.strategy,
        request.skip_tests,
        request.force,
        str(request.root),
        request.base_env,
    )


def _require_running(world: World, name: str) -> None:
    if world.environment is None or not world.environment.running:
        raise VoleryError(f"environment {name} is not up", code=Code.CONFLICT, hint="volery up")


def _require_needs(world: World, request: Request, releases: Mapping[str, Release]) -> None:
    """A service that cannot do without another one is not deployed before that is there."""
    if request.only is None:
        return
    there = {name for name, state in world.services.items() if not state.removing} | {*request.only}
    for name in request.only:
        for need in ordering_needs(releases[name].spec):
            if need not in there:
                together = f"volery up, or together: volery deploy {' '.join(request.only)} {need}"
                known = need in request.application.services
                raise VoleryError(
                    f"{name} needs {need}, which is not there",
                    code=Code.CONFLICT,
                    hint=together if known else f"add {need} to the manifest, then: volery up",
                )


def _put_environment(draft: Draft, request: Request) -> None:
    world = draft.world
    before = world.environment
    after = EnvironmentState(
        applied(world, request.application, request.only),
        request.environment,
        str(request.root),
        base_env=dict(request.base_env),
    )
    if before is not None and before.running:
        if request.only is not None:
            after = replace(after, root=before.root, base_env=before.base_env)
        awaited = awaited_by(world, after.application.gateway.routes)
        after = replace(after, awaited=awaited, routes_before=world.routes if awaited else ())
    else:
        draft.event("environment.up", f"{after.application.app} is coming up", cause=request.by)
    draft.put("environment", "environment", after)
