"""What instances use is measured, of the whole tree, and nobody is woken by it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from integration.engine.lab import Lab, reaches, until

from volery.engines.local import LocalEngine, usage
from volery.model.application import Resources

MIB = 2**20
# The main process only waits; a child eats and works.
BUSY = """
import os, subprocess, sys, time
work = "eaten = bytearray(80 << 20); eaten[::4096] = b'x' * len(eaten[::4096])\\nwhile True: pass"
worker = subprocess.Popen([sys.executable, "-S", "-E", "-c", work])
worker.wait()
"""


def test_processor_time_and_memory_of_the_whole_tree(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.attend(frozenset({"web"}))
        engine.start(lab.spec("web-1", BUSY))

        def measured() -> bool:
            seen = engine.observe()["web-1"]
            return (seen.cpu_seconds or 0) > 0.5 and (seen.memory or 0) > 80 * MIB

        await until(measured)
        seen = engine.observe()["web-1"]
        assert seen.measured_at is not None
        woken = len(lab.wakes)
        more = (seen.cpu_seconds or 0.0) + 0.5
        await until(lambda: (engine.observe()["web-1"].cpu_seconds or 0.0) > more)
        assert (engine.observe()["web-1"].measured_at or 0.0) > seen.measured_at
        assert len(lab.wakes) == woken
        engine.stop("web-1")
        ended = await reaches(engine, "web-1", "exited")
        assert ended.cpu_seconds is ended.memory is ended.measured_at is None

    lab.run(scenario)


def test_a_measurement_that_fails_is_not_the_last(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, defects = usage.measure, [RuntimeError("a defect")]

    def failing_once(trees: Mapping[str, usage.Tree]) -> dict[str, usage.Usage]:
        if defects:
            raise defects.pop()
        return measure(trees)

    async def scenario(engine: LocalEngine) -> None:
        engine.attend(frozenset({"web"}))
        engine.start(lab.spec("web-1"))
        await until(lambda: engine.observe()["web-1"].memory)
        assert not defects

    monkeypatch.setattr(usage, "measure", failing_once)
    lab.run(scenario)


def test_a_control_group_is_asked_where_there_is_one(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.attend(frozenset({"web"}))
        limits = Resources(memory=300 * MIB, cpu=1.0)
        engine.start(lab.spec("web-1", BUSY, resources=limits))
        await until(lambda: (engine.observe()["web-1"].memory or 0) > 80 * MIB)
        assert (engine.observe()["web-1"].memory or 0) < 300 * MIB
        await until(lambda: (engine.observe()["web-1"].cpu_seconds or 0.0) > 0.5)

    lab.run(scenario)
