"""Commands that run beside an instance: its `switchover`, `demote` and `backup`.

Each key is run once, on a leash: nothing of it is left when it ends, is late, or when the control
plane dies. What it wrote is kept as one line, secrets masked. It never decides what an answer
means, and forgets the oldest answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from volery.model.ports import Answer, SideCommand
from volery.model.units import format_duration
from volery.supervise.leashed import Command, End, run_leashed
from volery.supervise.text import clean

KEPT_ANSWERS = 8
KEPT_BYTES = 4096


class Beside:
    """The commands of one instance; `changed` is called when one has ended."""

    def __init__(self, changed: Callable[[], None], mask: Callable[[str], str]) -> None:
        self.answers: dict[str, Answer] = {}
        self._changed = changed
        self._mask = mask
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def run(
        self, key: str, command: SideCommand, folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Run it unless this key was run before."""
        if key in self.answers:
            return
        self.answers[key] = Answer("waiting")
        while len(self.answers) > KEPT_ANSWERS:
            del self.answers[next(iter(self.answers))]
        work = self._run(key, command, folder, {**environment, **command.environment})
        self._tasks[key] = asyncio.get_running_loop().create_task(work)

    async def close(self) -> None:
        """End what runs."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(
        self, key: str, command: SideCommand, folder: Path, environment: Mapping[str, str]
    ) -> None:
        deadline = asyncio.get_running_loop().time() + command.seconds
        tail = _Tail()
        try:
            end = await run_leashed(Command(command.argv, folder, environment), deadline, tail)
            answer = self._answer(command, end, tail.last_line)
        except OSError as error:
            answer = Answer("broken", f"{command.argv[0]} cannot be run: {error.strerror}")
        self.answers[key] = Answer(answer.state, answer.text, at=time.monotonic())
        del self._tasks[key]
        self._changed()

    def _answer(self, command: SideCommand, end: End, said: str) -> Answer:
        name, said = command.argv[0], self._mask(said)
        if end.well:
            return Answer("yes", said)
        if end.kind == "late":
            return Answer("broken", f"{name} did not end within {format_duration(command.seconds)}")
        text = f"{name}: {end.text}: {said}".removesuffix(": ")
        return Answer("no" if end.kind in ("exit", "signal") else "broken", text)


class _Tail:
    """The end of what was written."""

    def __init__(self) -> None:
        self._kept = b""

    def write(self, chunk: bytes) -> object:
        """The next bytes."""
        self._kept = (self._kept + chunk)[-KEPT_BYTES:]
        return None

    @property
    def last_line(self) -> str:
        """The last line that is not empty."""
        return clean(self._kept.strip().rpartition(b"\n")[2])
