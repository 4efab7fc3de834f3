"""Builds and tests releases on this machine: the `Builder` port.

`prepare` makes the clean copy before there is a release; `request` builds and tests it in the
background. An artifact is built once, whoever asks how often; what was not completed before a crash
starts again from a fresh copy. At most as many run at once as there are cores.

It never decides whether to build, and never runs anything outside the folder of artifacts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp
from typing import Any, Literal, TypeVar

from volery.build.artifact import Artifact, artifact_digest, remove_tree
from volery.build.command import Stage, run
from volery.build.output import Output
from volery.build.source import Source
from volery.build.tree import Limits
from volery.manifest.inherited import inherited
from volery.model.application import Service
from volery.model.errors import VoleryError
from volery.model.masking import Masking
from volery.model.ports import BuildStatus
from volery.model.state import Release

SPARE = 3
"""Of each service, this many artifacts that nobody asked to keep are kept: the latest used."""
TAIL_LINES = 20
FULL_BYTES = 64 * 2**10
"""A disk with less than this left is full."""
log = logging.getLogger(__name__)
Result = TypeVar("Result")
StageName = Literal["build", "test"]


@dataclass(eq=False)
class _Job:
    """A release that was asked for."""

    release: Release
    skip_tests: bool
    status: BuildStatus = field(default_factory=lambda: BuildStatus("building"))
    task: asyncio.Task[None] | None = None


@dataclass(eq=False)
class _Place:
    """One artifact, where one job at a time works; who waited learns of a failure."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    failures: int = 0
    last_failure: BuildStatus | None = None


class _StageFailed(VoleryError):
    """A command did not succeed; `tail` is what it wrote last."""

    def __init__(self, reason: str, tail: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.tail = tail


def _timed(failed: BuildStatus, seconds: float) -> BuildStatus:
    """How long it took until the stage failed."""
    if failed.failed_in == "build":
        return replace(failed, build_seconds=seconds)
    return replace(failed, test_seconds=seconds)


class LocalBuilder:
    """Builds below `home`, the folder of an environment: `<app>/<environment>`.

    Args:
        home: where artifacts are kept, in `artifacts/`.
        wake: called when `observe` has news.
        base_env: the variables of whoever asked for a release; only the five that may be seen are
            taken.
        hidden: values never to be shown in reasons and tails.
        without: folders that are never source, besides `home`.
        limits: how large a source may be.
        slots: how many build or test at once; by default one for each core.
    """

    def __init__(
        self,
        home: Path,
        wake: Callable[[], None],
        *,
        base_env: Callable[[Release], Mapping[str, str]],
        hidden: Callable[[], Iterable[str]] = tuple,
        without: Sequence[Path] = (),
        limits: Limits | None = None,
        slots: int | None = None,
    ) -> None:
        self._home = home
        self._folder = home / "artifacts"
        self._wake = wake
        self._base_env = base_env
        self._hidden = hidden
        self._without = (home, *without)
        self._limits = limits or Limits()
        slots = slots or len(os.sched_getaffinity(0))
        self._slots, self._reading = asyncio.Semaphore(slots), asyncio.Semaphore(slots)
        # Of its own: copying takes long, and in the loop's it would keep others waiting. For those
        # that read, those that build, and one that deletes.
        self._threads = ThreadPoolExecutor(2 * slots + 1, thread_name_prefix="builder")
        self._placing = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._places: dict[Path, _Place] = {}

    async def open(self) -> None:
        """Make the folder, and clear away what a crash left half done."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._in_thread(lambda _: _remove_all(list(self._folder.glob(".*"))))

    async def close(self) -> None:
        """Stop everything; what was not finished is built again when it is asked for again."""
        for job in list(self._jobs):
            self.cancel(job)
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._threads.shutdown(wait=False)

    # --- before there is a release ----------------------------------------------------------------

    async def digest(
        self, service_name: str, service: Service, root: Path, without: Collection[Path] = ()
    ) -> str:
        """The digest of the artifact that the source makes now; nothing is copied.

        Raises:
            VoleryError: it cannot be read, or is no source.
        """
        async with self._reading:
            return await self._in_thread(
                lambda stop: self._digest(self._source(service, root, without, stop), service)
            )

    async def prepare(
        self, service_name: str, service: Service, root: Path, without: Collection[Path] = ()
    ) -> Artifact:
        """Copy the source to where it will be built; nothing is copied if it is there already.

        Raises:
            VoleryError: it cannot be read or copied, or is no source.
        """
        async with self._reading:
            return await self._in_thread(
                lambda stop: self._prepare(
                    service_name, service, self._source(service, root, without, stop)
                )
            )

    def _prepare(self, name: str, service: Service, source: Source) -> Artifact:
        artifact = self._artifact(name, self._digest(source, service))
        try:
            if not artifact.present:
                artifact = self._copied(name, service, source)
            artifact.touch()
        except OSError as error:
            raise VoleryError(
                f"cannot copy the source of {name}: {error.strerror}",
                hint="free some space and check the rights of the folder, then try again",
                where=str(self._folder),
            ) from error
        return artifact

    def _copied(self, name: str, service: Service, source: Source) -> Artifact:
        """The source, copied aside and put in its place at once, under what was really copied."""
        new = Artifact(name, "", Path(mkdtemp(prefix=".new-", dir=self._folder)))
        try:
            copied = source.copy(new.source if service.build else new.src)
            if copied.skipped:
                new.note("skipped", copied.skipped)
            if service.build:
                new.sync()
            else:
                new.mark_built(0.0)  # nothing to build: the source is what runs
            artifact = self._artifact(name, artifact_digest(copied.digest, service.build))
            with self._placing:
                if not artifact.present:
                    artifact.replace_by(new)
            return artifact
        finally:
            remove_tree(new.path)

    def _source(
        self, service: Service, root: Path, without: Collection[Path], stop: threading.Event
    ) -> Source:
        folder = (root / service.source).resolve()
        return Source(folder, self._limits, (*self._without, *without), stop.is_set)

    @staticmethod
    def _digest(source: Source, service: Service) -> str:
        return artifact_digest(source.digest(), service.build)

    def _artifact(self, service: str, digest: str) -> Artifact:
        return Artifact(service, digest, self._folder / service / digest)

    # --- the port ---------------------------------------------------------------------------------

    def request(self, release: Release, skip_tests: bool) -> None:
        """Build and test this release; at once done if its artifact exists and passed.

        Asking again changes nothing, except that tests once skipped may now be wanted. A failure
        stays until `cancel`.
        """
        job = self._jobs.get(release.id)
        if job is None:
            job = self._jobs[release.id] = _Job(release, skip_tests)
            self._start(job)
        elif job.skip_tests and not skip_tests:
            job.skip_tests = False
            if job.status.phase == "built":
                self._start(job)

    def observe(self) -> Mapping[str, BuildStatus]:
        """By release id, those asked for since start."""
        return {name: job.status for name, job in self._jobs.items()}

    def cancel(self, release: str) -> None:
        """Stop working on it and drop its status."""
        job = self._jobs.pop(release, None)
        if job and job.task:
            job.task.cancel()

    def prune(self, keep: Mapping[str, Collection[str]]) -> None:
        """Delete the artifacts of each service that are not in `keep`, but for the latest few.

        Never one that is worked on. They are out of the way at once and deleted in the background.
        """
        busy = {self._of(job).path for job in self._jobs.values() if job.task}
        busy |= {path for path, place in self._places.items() if place.lock.locked()}
        trash = [_put_aside(path) for path in self._spare(keep) if path not in busy]
        self._places = {path: place for path, place in self._places.items() if path.exists()}
        if trash:
            self._spawn(self._in_thread(lambda _: _remove_all(trash)))

    def build_log(self, service: str, digest: str) -> Path:
        """Where the output of the latest build of an artifact is."""
        return self._artifact(service, digest).path / "build.log"

    def _spare(self, keep: Mapping[str, Collection[str]]) -> Iterator[Path]:
        for service in _folders_in(self._folder):
            kept = keep.get(service.name, ())
            spare = [path for path in _folders_in(service) if path.name not in kept]
            yield from sorted(spare, key=lambda path: path.stat().st_mtime, reverse=True)[SPARE:]

    # --- the work ---------------------------------------------------------------------------------

    def _of(self, job: _Job) -> Artifact:
        return self._artifact(job.release.service, job.release.artifact)

    def _start(self, job: _Job) -> None:
        artifact = self._of(job)
        if artifact.built and self._passed(job, artifact):
            job.status = self._done(job, artifact)
            return
        job.status = replace(job.status, phase="building")
        job.task = self._spawn(self._work(job, artifact))
        job.task.add_done_callback(lambda task: self._ended(job, task))

    def _passed(self, job: _Job, artifact: Artifact) -> bool:
        return job.skip_tests or _tested(job, artifact)

    @staticmethod
    def _done(job: _Job, artifact: Artifact) -> BuildStatus:
        return replace(job.status, phase="built", tested=_tested(job, artifact))

    async def _work(self, job: _Job, artifact: Artifact) -> None:
        place = self._places.setdefault(artifact.path, _Place())
        failures = place.failures
        async with place.lock:
            if place.failures > failures:
                assert place.last_failure
                self._tell(job, place.last_failure)
                return
            async with self._slots:
                await self._build_and_test(job, artifact, place)

    async def _build_and_test(self, job: _Job, artifact: Artifact, place: _Place) -> None:
        clock = asyncio.get_running_loop().time
        stage: StageName = "build"
        began = clock()
        try:
            if not artifact.built:
                await self._build(job, artifact)
            stage, began = "test", clock()
            if not self._passed(job, artifact):
                await self._test(job, artifact)
            self._tell(job, self._done(job, artifact))
        except (VoleryError, OSError) as error:
            tail = error.tail if isinstance(error, _StageFailed) else ()
            reason = self._explained(error)
            failed = replace(job.status, phase="failed", failed_in=stage, reason=reason, tail=tail)
            failed = _timed(failed, clock() - began)
            if stage == "build":
                place.failures += 1
                place.last_failure = failed
                await self._in_thread(lambda _: _remove_all([artifact.src]))
            self._tell(job, failed)

    async def _build(self, job: _Job, artifact: Artifact) -> None:
        if not artifact.present:
            raise VoleryError("its source is gone; deploy it again from the source")
        await self._in_thread(lambda stop: artifact.start_afresh(stop.is_set))
        seconds = await self._stage("build", job, artifact, artifact.src)
        self._tell(job, replace(job.status, build_seconds=seconds))
        await self._in_thread(lambda _: artifact.mark_built(seconds))

    async def _test(self, job: _Job, artifact: Artifact) -> None:
        """In a copy: another release of the same artifact may serve from what was built."""
        self._tell(job, replace(job.status, phase="testing"))
        around = Path(mkdtemp(prefix=".test-", dir=self._folder))
        folder = around / "src"
        try:
            await self._in_thread(lambda stop: artifact.copy_to(folder, stop.is_set))
            seconds = await self._stage("test", job, artifact, folder)
        finally:
            await self._in_thread(lambda _: _remove_all([around]))
        self._tell(job, replace(job.status, test_seconds=seconds))
        await self._in_thread(lambda _: artifact.mark_tested(job.release.spec, seconds))

    async def _stage(self, name: StageName, job: _Job, artifact: Artifact, folder: Path) -> float:
        """How long it took. Raises _StageFailed with the last lines of output."""
        spec, clock = job.release.spec, asyncio.get_running_loop().time
        started = clock()
        stage = Stage(
            spec.build if name == "build" else spec.test,
            folder,
            self._environment(name, job.release),
            spec.build_timeout if name == "build" else spec.test_timeout,
        )
        with Output(artifact.log(name, spec)) as output:
            reason = await run(stage, output)
        if reason:
            raise self._failed(reason, output)
        return clock() - started

    def _failed(self, reason: str, output: Output) -> _StageFailed:
        try:
            hidden = tuple(self._hidden())
        except VoleryError as error:  # what cannot be read cannot be hidden
            return _StageFailed(reason, (f"(not shown: {error.message})",))
        return _StageFailed(Masking(hidden)(reason), output.tail(TAIL_LINES, hidden))

    def _environment(self, stage: StageName, release: Release) -> dict[str, str]:
        found = inherited(self._base_env(release)) | {
            "VOLERY_APP": self._home.parent.name,
            "VOLERY_ENVIRONMENT": self._home.name,
            "VOLERY_SERVICE": release.service,
            "VOLERY_RELEASE": release.id,
        }
        return found | release.spec.env if stage == "test" else found

    def _explained(self, error: VoleryError | OSError) -> str:
        reason = error.message if isinstance(error, VoleryError) else str(error)
        full = shutil.disk_usage(self._folder).free < FULL_BYTES
        return f"{reason} (the disk is full)" if full else reason

    async def _in_thread(self, work: Callable[[threading.Event], Result]) -> Result:
        """Run it in a thread. Cancelling sets the event and waits: nothing goes on unseen."""
        stop = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(self._threads, work, stop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # told to nobody: whoever wanted it is gone
            raise

    # --- bookkeeping ------------------------------------------------------------------------------

    def _tell(self, job: _Job, status: BuildStatus) -> None:
        job.status = status
        if self._jobs.get(job.release.id) is job:
            self._wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _ended(self, job: _Job, task: asyncio.Task[None]) -> None:
        if job.task is task:
            job.task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a defect of ours: it must neither hang the rollout nor be hidden
            reason = f"internal error: {error!r}"
            self._tell(job, replace(job.status, phase="failed", failed_in="build", reason=reason))
            task.get_loop().call_exception_handler({"message": reason, "exception": error})


def _tested(job: _Job, artifact: Artifact) -> bool:
    return not job.release.spec.test or artifact.tested(job.release.spec)


def _folders_in(folder: Path) -> Iterator[Path]:
    """Without those that are being made or deleted, and what somebody else left there."""
    return (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _put_aside(path: Path) -> Path:
    """Out of the way at once, under a name that the next `open` clears away if we do not. Nothing
    is made for it: the disk may be full."""
    return path.rename(path.parent.parent / f".old-{token_hex(8)}")


def _remove_all(paths: Iterable[Path]) -> None:
    """Delete what can be deleted; the rest is tried again by the next `open`."""
    for path in paths:
        try:
            remove_tree(path)
        except OSError as error:
            log.warning("%s cannot be deleted: %s", path, error)
