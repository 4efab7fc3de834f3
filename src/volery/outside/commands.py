"""Runs the command of a gate or a metric in its folder.

VOLERY_* variables tell it what it is about. It sees the environment of the call and nothing else,
and leaves nothing behind (see `supervise/leashed.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from volery.manifest.inherited import with_python
from volery.model.ports import GateCall, MetricCall
from volery.supervise.leashed import Command, End, Sink, run_leashed


async def run(
    words: Sequence[str],
    call: GateCall | MetricCall,
    seconds: float,
    output: Sink,
    errors: Sink | None = None,
) -> End:
    """Run it. That it could not be started is an end as well."""
    command = Command(words, Path(call.directory), environment_of(call))
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        return await run_leashed(command, deadline, output, errors)
    except OSError as error:
        return End("not_started", 0, f"cannot run {words[0]}: {error.strerror or error}")


def environment_of(call: GateCall | MetricCall) -> dict[str, str]:
    """What it sees."""
    return {
        **call.environment,
        "PATH": with_python(call.environment.get("PATH")),
        **told(call),
    }


def told(call: GateCall | MetricCall) -> dict[str, str]:
    """What a command is told: `about`, and whom it is asked about."""
    subject = call.subject
    facts = {"service": subject.service, "release": subject.release, "track": subject.track}
    return {
        f"VOLERY_{name.upper().replace('-', '_')}": value
        for name, value in {**call.about, **facts}.items()
    }
