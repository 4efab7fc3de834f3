"""Limits: enforced where they are said to be, watched or not enforced where that is said."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from integration.engine.lab import Lab, reaches, until

from volery.engines.local import LocalEngine
from volery.model.application import Resources
from volery.supervise import enforceable

HUNGRY = """
import time
print("eating", flush=True)
eaten = []
while True:
    eaten.append(bytearray(1 << 20))
    eaten[-1][::4096] = b"x" * 256
    if len(eaten) > 300:
        time.sleep(1000)
"""
MIB = 2**20


def need(limit: str, means: str) -> None:
    found = enforceable()[limit]
    if not found.startswith(means):
        pytest.skip(f"{limit} is {found} on this machine")


def test_a_process_over_its_memory_is_killed_and_that_is_said(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", HUNGRY, resources=Resources(memory=64 * MIB)))
        ended = await reaches(engine, "web-1", "exited")
        assert ended.enforced["memory"] == enforceable()["memory"]
        assert ended.exit is not None
        assert ended.exit.out_of_memory and ended.exit.signal == "SIGKILL"
        assert ended.detail == "killed: out of memory"

    lab.run(scenario)


def test_an_ordinary_kill_is_not_called_out_of_memory(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", resources=Resources(memory=256 * MIB)))
        seen = await reaches(engine, "web-1", "ready")
        assert seen.pid is not None
        os.kill(seen.pid, 9)
        ended = await reaches(engine, "web-1", "exited")
        assert ended.exit is not None and not ended.exit.out_of_memory

    lab.run(scenario)


def test_processes_are_limited(lab: Lab) -> None:
    need("pids", "cgroup")
    code = """
import os, time
for number in range(100):
    try:
        if os.fork() == 0:
            time.sleep(1000)
    except BlockingIOError:
        print("at most", number, flush=True)
        break
time.sleep(1000)
"""

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code, resources=Resources(pids=10)))
        await until(lambda: engine.tail("web-1") == ["at most 9"])
        engine.stop("web-1")
        await reaches(engine, "web-1", "exited")

    lab.run(scenario)


def test_open_files_are_limited(lab: Lab) -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)"

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code, resources=Resources(files=77)))
        seen = await reaches(engine, "web-1", "exited")
        assert engine.tail("web-1") == ["(77, 77)"]
        assert seen.enforced == {"files": "rlimit"}

    lab.run(scenario)


@pytest.mark.parametrize("files", [2**31, 10**20])
def test_more_open_files_than_the_kernel_allows_are_not_enforced(lab: Lab, files: int) -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)"

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code, resources=Resources(files=files)))
        seen = await reaches(engine, "web-1", "exited")
        assert engine.tail("web-1") == [str(resource.getrlimit(resource.RLIMIT_NOFILE))]
        assert seen.enforced == {"files": "not enforced"}

    lab.run(scenario)


def test_processor_time_is_limited(lab: Lab) -> None:
    need("cpu", "cgroup")

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", resources=Resources(cpu=0.25)))
        seen = await reaches(engine, "web-1", "ready")
        folders = groups(lab)
        quota = [
            words
            for folder in folders
            for name in ("cpu.cfs_quota_us", "cpu.max")
            if (folder / name).exists()
            for words in [(folder / name).read_text().split()[0]]
        ]
        assert "25000" in quota and seen.enforced["cpu"].startswith("cgroup")

    lab.run(scenario)


def groups(lab: Lab) -> list[Path]:
    status = lab.supervised("web-1").status()
    assert status is not None
    return [Path(folder) for folder in status.cgroups]


@pytest.mark.parametrize("orphaned", [False, True])
def test_control_groups_are_removed(lab: Lab, orphaned: bool) -> None:
    async def scenario(engine: LocalEngine) -> None:
        resources = Resources(memory=64 * MIB, cpu=1, pids=10)
        engine.start(lab.spec("web-1", resources=resources))
        await reaches(engine, "web-1", "ready")
        made = groups(lab)
        if not made:
            pytest.skip("no control group can be made here")
        assert all(folder.is_dir() for folder in made)
        if orphaned:
            lab.kill_shim("web-1")
        engine.stop("web-1")
        await reaches(engine, "web-1", "exited")
        assert not any(folder.exists() for folder in made)

    lab.run(scenario)
