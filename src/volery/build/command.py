"""Runs the commands of one stage (build, or test), one after the other, until one fails.

No shell: a command is an argument list in which `$NAME` words were expanded. Each runs on a leash
(see `leash`): in a session of its own, without input, and gone with everything it started when it
ends, takes too long, is cancelled, or when this process dies.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from volery.build.output import Output
from volery.model.units import format_duration
from volery.supervise.shim.child import expand, locate, why_not_started

LEASH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")))
LEASH_SECONDS = 10.0
"""How long the leash may take to end everything before it is killed itself."""
CHUNK_BYTES = 2**16
SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Stage:
    """What to run, where, with which environment, and how long all of it may take."""

    commands: Sequence[Sequence[str]]
    folder: Path
    environment: Mapping[str, str]
    seconds_max: float


async def run(stage: Stage, output: Output) -> str:
    """Run the stage. Returns why it failed in one line, or "" if all went well."""
    deadline = asyncio.get_running_loop().time() + stage.seconds_max
    for command in stage.commands:
        reason = await _run_one(command, stage, output, deadline)
        if reason:
            output.note(reason)
            return reason
    return ""


async def _run_one(command: Sequence[str], stage: Stage, output: Output, deadline: float) -> str:
    clock = asyncio.get_running_loop().time
    words = expand(list(command), dict(stage.environment))
    output.note(f"$ {shlex.join(words)}")
    name, started = _shown(command), clock()
    program = locate(words[0], stage.environment.get("PATH", os.defpath))
    if not program:
        return f"command not found: {words[0]}"
    leashed = _Leashed(program, words, stage, output)
    try:
        async with asyncio.timeout_at(deadline):
            await leashed.ended.wait()
    except TimeoutError:
        return f"{name}: timed out after {format_duration(stage.seconds_max)}"
    finally:
        await leashed.end()
    return leashed.reason(name, clock() - started)


class _Leashed:
    """A command running on its leash; its output goes to `output`."""

    def __init__(self, program: str, words: list[str], stage: Stage, output: Output) -> None:
        self.ended = asyncio.Event()
        self._silent = asyncio.Event()
        self._output = output
        self._word, self._file = words[0], str(stage.folder / program)
        self._how = ""
        self._loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            self._out = _pipe(stack)
            self._report = _pipe(stack)
            self._process = subprocess.Popen(
                [*LEASH, str(os.getpid()), str(self._report[1]), program, *words],
                cwd=stage.folder,
                env=dict(stage.environment),
                stdin=subprocess.DEVNULL,
                stdout=self._out[1],
                stderr=self._out[1],
                start_new_session=True,
                pass_fds=(self._report[1],),
            )
            stack.pop_all()
        os.close(self._out[1])
        os.close(self._report[1])
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._on_end)
        self._loop.add_reader(self._out[0], self._on_output)

    async def end(self) -> None:
        """Returns when nothing of the command runs any more and all its output was taken."""
        try:
            if not self.ended.is_set():
                self._process.terminate()
                await _within(LEASH_SECONDS, self.ended)
            await _within(LEASH_SECONDS, self._silent)
        finally:
            self._process.kill()  # nothing happens if it ended; else it takes the command along
            self._process.wait()
            with suppress(BlockingIOError):
                self._how = os.read(self._report[0], CHUNK_BYTES).decode()
            for descriptor in (self._pidfd, self._out[0], self._report[0]):
                self._loop.remove_reader(descriptor)
                os.close(descriptor)

    def reason(self, name: str, seconds: float) -> str:
        """Why the command failed, "" if it did not."""
        kind, _, number = self._how.partition("\n")[0].partition(" ")
        after = f"after {format_duration(seconds)}"
        match kind:
            case "exit":
                return "" if number == "0" else f"{name}: exit code {number} {after}"
            case "signal":
                return f"{name}: killed by {signal.Signals(int(number)).name} {after}"
            case "error":
                error = OSError(int(number), os.strerror(int(number)))
                return why_not_started(error, self._file, self._word)
            case _:
                return f"{name}: killed from outside {after}"

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.ended.set()

    def _on_output(self) -> None:
        chunk = os.read(self._out[0], CHUNK_BYTES)
        if chunk:
            self._output.write(chunk)
        else:
            self._loop.remove_reader(self._out[0])
            self._silent.set()


def _pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe that is closed with the stack; its reading end never blocks."""
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    os.set_blocking(reader, False)
    return reader, writer


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _shown(command: Sequence[str]) -> str:
    text = shlex.join(command)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
