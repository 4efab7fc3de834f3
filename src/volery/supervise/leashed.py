"""Runs one command on a leash (see `leash`), to its end or to a deadline.

No shell: a command is an argument list in which `$NAME` words are expanded. It runs in a session of
its own, without input, and is gone with everything it started when it ends, is late, is cancelled,
or when this process dies. What it writes goes to sinks that say themselves how much they keep.

It never decides what an end means.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from volery.model.units import format_duration
from volery.supervise.command import kill_session
from volery.supervise.shim.child import expand, locate, why_not_started
from volery.supervise.shim.processes import signal_name

LEASH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")))
LEASH_SECONDS = 10.0
"""How long the leash may take to end everything before it is killed itself."""
PAUSE_SECONDS = 0.01
"""Between two looks whether all that was killed is dead."""
CHUNK_BYTES = 2**16


class Sink(Protocol):
    """Takes output."""

    def write(self, chunk: bytes) -> object:
        """The next bytes."""


@dataclass(frozen=True)
class Command:
    """What to run, as it is written, where, and with which environment (it may hold secrets)."""

    written: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def words(self) -> list[str]:
        """The argument list, `$NAME` words expanded."""
        return expand(list(self.written), dict(self.environment))


@dataclass(frozen=True)
class End:
    """How a command ended: *exit* with a code, by a *signal*, *killed* from outside together with
    its leash, *late*, or *not_started*. `text` says it in a few words."""

    kind: Literal["exit", "signal", "killed", "late", "not_started"]
    number: int
    text: str

    @property
    def well(self) -> bool:
        """Whether it exited 0."""
        return self.kind == "exit" and self.number == 0


async def run_leashed(
    command: Command, deadline: float, output: Sink, errors: Sink | None = None
) -> End:
    """Run it until this time of the loop's clock. Without `errors` all it writes is `output`.

    Raises:
        OSError: no process could be started for it, or its folder is gone.
    """
    clock = asyncio.get_running_loop().time
    started, words = clock(), command.words
    program = locate(words[0], command.environment.get("PATH", os.defpath))
    if not program:
        return End("not_started", 0, f"command not found: {words[0]}")
    leashed = _Leashed(command, [program, *words], output, errors)
    try:
        async with asyncio.timeout_at(deadline):
            await leashed.ended.wait()
    except TimeoutError:
        if not leashed.ended.is_set():  # else it is only we who come late
            return End("late", 0, f"timed out after {format_duration(clock() - started)}")
    finally:
        await _to_its_end(leashed.end())
    return leashed.how(clock() - started)


class _Leashed:
    """A command running on its leash."""

    def __init__(
        self, command: Command, argv: list[str], output: Sink, errors: Sink | None
    ) -> None:
        self.ended = asyncio.Event()
        self._word, self._file = argv[1], str(command.folder / argv[0])
        self._report_text = ""
        self._loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            report, out = _pipe(stack), _pipe(stack)
            err = _pipe(stack) if errors else out
            self._process = subprocess.Popen(
                [*LEASH, str(os.getpid()), str(report[1]), *argv],
                cwd=command.folder,
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=out[1],
                stderr=err[1],
                start_new_session=True,
                pass_fds=(report[1],),
            )
            stack.pop_all()
        self._report = report[0]
        self._streams = [_Stream(out[0], output)] + ([_Stream(err[0], errors)] if errors else [])
        for descriptor in {report[1], out[1], err[1]}:
            os.close(descriptor)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._on_end)

    async def end(self) -> None:
        """Returns when nothing of the command runs any more and all its output was taken."""
        try:
            if not self.ended.is_set():
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
                await _within(LEASH_SECONDS, self.ended)
            await self._kill()
            for stream in self._streams:
                await _within(LEASH_SECONDS, stream.silent)
        finally:
            self._process.wait()
            with suppress(BlockingIOError):
                self._report_text = os.read(self._report, CHUNK_BYTES).decode()
            self._loop.remove_reader(self._pidfd)
            for descriptor in (self._pidfd, self._report):
                os.close(descriptor)
            for stream in self._streams:
                stream.close()

    async def _kill(self) -> None:
        """The leash, if it still runs, and what it left behind if somebody killed it. Its number is
        nobody else's before it is reaped."""
        for _ in range(round(LEASH_SECONDS / PAUSE_SECONDS)):
            if not kill_session(self._process.pid):
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def how(self, seconds: float) -> End:
        """How the command ended, once it has."""
        kind, _, number = self._report_text.partition("\n")[0].partition(" ")
        after = f"after {format_duration(seconds)}"
        match kind:
            case "exit":
                return End("exit", int(number), f"exit code {number} {after}")
            case "signal":
                return End("signal", int(number), f"killed by {signal_name(int(number))} {after}")
            case "error":
                error = OSError(int(number), os.strerror(int(number)))
                return End("not_started", 0, why_not_started(error, self._file, self._word))
            case _:
                return End("killed", 0, f"killed from outside {after}")

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.ended.set()


class _Stream:
    """What comes through one pipe goes to a sink."""

    def __init__(self, descriptor: int, sink: Sink) -> None:
        self.silent = asyncio.Event()
        self._descriptor, self._sink = descriptor, sink
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._on_output)

    def _on_output(self) -> None:
        chunk = os.read(self._descriptor, CHUNK_BYTES)
        if chunk:
            self._sink.write(chunk)
        else:
            self._loop.remove_reader(self._descriptor)
            self.silent.set()

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


def _pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe that is closed with the stack; its reading end never blocks."""
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    os.set_blocking(reader, False)
    return reader, writer


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Whoever is impatient waits as well: a leash killed early would leave what it holds."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
