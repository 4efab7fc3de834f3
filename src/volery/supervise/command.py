"""A short command, run to its end or to its deadline; then nothing of it is left.

One that cannot be killed, because the disk it waits for does not answer, keeps nobody waiting; the
same command is not run again before it is gone. Its output is bounded, and its end is its own: what
it leaves behind with the pipe open is not waited for. It gets exactly the environment given, no
input, and a session of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volery.supervise.shim.processes import all_processes, descendants, send
from volery.supervise.text import clean

_KEPT_BYTES = 4096
_CHUNK = 65536
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.005, 1.0, 1.1
"""Between two looks whether all that was killed is dead."""
_WAIT_SECONDS = 1.0
"""How long one that was killed is waited for."""
READ_BYTES = 2**20
"""Where output is what counts, who writes more than this is read no further, so not believed."""
_Same = tuple[tuple[str, ...], str, tuple[tuple[str, str], ...]]
_dying: dict[_Same, asyncio.Task[None]] = {}
"""What was killed and is not dead yet, by command, folder and environment."""


@dataclass(frozen=True)
class Ran:
    """How it ended: an exit code, minus a signal number, or None if it had to be killed."""

    code: int | None
    output: bytes
    """The end of what it wrote."""
    head: bytes = b""
    """The beginning of its standard output, where that is kept apart."""

    @property
    def last_line(self) -> str:
        """The last line that is not empty, as text."""
        lines = self.output.strip().rsplit(b"\n", 1)
        return clean(lines[-1])


async def run(
    argv: Sequence[str],
    directory: str,
    environment: Mapping[str, str],
    seconds: float,
    *,
    apart: bool = False,
) -> Ran:
    """Run it. With `apart` the `head` is of its standard output, and `output` of its errors.

    Raises:
        OSError: it cannot be started.
    """
    same = (tuple(argv), directory, tuple(environment.items()))
    if same in _dying:
        await asyncio.wait([_dying[same]], timeout=seconds)
        if same in _dying:  # there is no use in a second one that waits for the same
            return Ran(None, b"")
    output = _Output()
    said = _Output(READ_BYTES) if apart else output
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - returns once the program is executed
            argv,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said.write_end,
            stderr=output.write_end,
            start_new_session=True,
        )
    except BaseException:
        for stream in {output, said}:
            stream.close()
        raise
    finally:
        for stream in {output, said}:
            os.close(stream.write_end)
    pidfd = os.pidfd_open(process.pid)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    for stream in {output, said}:
        stream.listen()
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        if not ended.is_set():  # else it is only we who come late
            return Ran(None, output.content, said.head)
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        for stream in {output, said}:
            stream.close()
        await _end(process, ended.is_set(), same)
    return Ran(process.returncode, output.content, said.head)


async def _end(process: subprocess.Popen[bytes], ended: bool, same: _Same) -> None:
    """Kill what is left of it. What waits for a disk dies only when that answers: for long, nobody
    waits for it."""
    if ended:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind
        process.wait()
    else:
        kill_session(process.pid)  # at once, also where we may not wait
        dying = _dying[same] = asyncio.get_running_loop().create_task(_bury(process))
        dying.add_done_callback(lambda _: _dying.pop(same, None))
        await asyncio.wait([dying], timeout=_WAIT_SECONDS)


async def _bury(process: subprocess.Popen[bytes]) -> None:
    """Again and again: what is killed may just have started something."""
    pause = _FIRST_PAUSE
    while kill_session(process.pid) or process.poll() is None:
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * _GROWTH)


def kill_session(pid: int) -> bool:
    """Kill it, what is below it, and what went with its session; it must not have been reaped.
    Whether anything was left to kill."""
    below = {stat.pid for stat in descendants(pid)}
    found = [
        stat
        for stat in all_processes()
        if stat.pid == pid or stat.pid in below or stat.session == pid
    ]
    return any([send(stat.pid, stat.ticks, signal.SIGKILL) for stat in found])


class _Output:
    """The beginning and the end of what comes through a pipe."""

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        self.content = self.head = b""
        self._read = 0

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._read_end, self._take)

    def _take(self) -> bool:
        try:
            content = os.read(self._read_end, _CHUNK)
        except BlockingIOError:
            return False
        self.head += content[: _KEPT_BYTES - len(self.head)]
        self.content = (self.content + content)[-_KEPT_BYTES:]
        self._read += len(content)
        if not content or self._read > self._most:
            asyncio.get_running_loop().remove_reader(self._read_end)
        return bool(content)

    def close(self) -> None:
        """Take what is still in the pipe, but no more than a pipe holds at once."""
        for _ in range(16):
            if not self._take():
                break
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)
