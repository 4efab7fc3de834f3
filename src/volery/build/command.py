"""Runs the commands of one stage (build, or test), one after the other, until one fails.

Each runs on a leash (see `supervise/leashed.py`), and all of them together have one time limit.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volery.build.output import Output
from volery.model.units import format_duration
from volery.supervise.leashed import Command, run_leashed

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


async def _run_one(written: Sequence[str], stage: Stage, output: Output, deadline: float) -> str:
    command = Command(written, stage.folder, stage.environment)
    output.note(f"$ {shlex.join(command.words)}")
    ended = await run_leashed(command, deadline, output)
    if ended.well:
        return ""
    if ended.kind == "not_started":
        return ended.text
    if ended.kind == "late":
        return f"{_shown(written)}: timed out after {format_duration(stage.seconds_max)}"
    return f"{_shown(written)}: {ended.text}"


def _shown(command: Sequence[str]) -> str:
    text = " ".join(shlex.join(command).split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
