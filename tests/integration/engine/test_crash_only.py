"""Whatever is killed, at whatever moment: nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from integration.engine.lab import DAEMONS, SERVER, Lab, daemons, reaches, running, until

from volery.engines.local import LocalEngine
from volery.model.application import Health, Probe, Stop
from volery.model.ports import Exit
from volery.supervise import orphan
from volery.supervise.identity import environment_of

CONTROL = """
import asyncio, pickle, sys
from pathlib import Path
from volery.engines.local import LocalEngine

async def main():
    engine = LocalEngine(Path(sys.argv[1]), lambda: None)
    await engine.open()
    specs = pickle.loads(Path(sys.argv[2]).read_bytes())
    for spec in specs:
        engine.start(spec)
    if sys.argv[3] != "at once":
        while any(seen.state != "ready" for seen in engine.observe().values()):
            await asyncio.sleep(0.01)
        for spec in specs:
            engine.settle(spec.id)
    print("ready", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def control_plane(lab: Lab, names: list[str], moment: str) -> subprocess.Popen[bytes]:
    """Another process that starts instances; returns once it has got that far."""
    import pickle

    specs = lab.work / "specs"
    specs.write_bytes(pickle.dumps([lab.spec(name) for name in names]))
    command = [sys.executable, "-c", CONTROL, str(lab.home), str(specs), moment]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def children(lab: Lab, names: list[str]) -> dict[str, int]:
    found = {}
    for name in names:
        status = lab.supervised(name).status()
        assert status is not None and status.child is not None
        found[name] = status.child.pid
    return found


def test_a_killed_engine_finds_everything_again(lab: Lab) -> None:
    names = ["web-1", "web-2", "web-3"]
    killed = control_plane(lab, names, "settled")
    deadline = time.monotonic() + 60
    while not all(lab.restarts(name) for name in names):
        assert time.monotonic() < deadline
    before = children(lab, names)
    kill(killed)
    assert all(running(pid) for pid in before.values())

    async def scenario(engine: LocalEngine) -> None:
        for name in names:
            seen = await reaches(engine, name, "ready")
            assert seen.pid == before[name] and seen.restarts == 0 and seen.alive
            engine.start(lab.spec(name))
        assert {name: engine.observe()[name].pid for name in names} == before
        assert all(lab.lives(name) == 1 for name in names)
        for name in names:
            engine.stop(name)
        for name in names:
            await reaches(engine, name, "exited")

    lab.run(scenario)


LATE = SERVER.replace(
    "sick = ", "sick = os.path.exists('sick') and __import__('time').sleep(4)  # "
)


@pytest.mark.parametrize(
    ("code", "suspected"), [(SERVER, True), (LATE, False)], ids=["sick", "late"]
)
def test_one_bad_answer_takes_nobody_out_who_served_before(
    lab: Lab, code: str, suspected: bool
) -> None:
    health = Health(ready=Probe(path="/healthz"), every=60.0, timeout=20.0, failures=3)

    async def begin(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code, health=health))
        await reaches(engine, "web-1", "ready")
        engine.settle("web-1")
        await until(lambda: lab.restarts("web-1"))

    async def later(engine: LocalEngine) -> None:
        seen = engine.observe()["web-1"]
        assert seen.state == "ready" and bool(seen.suspect) is suspected

    lab.run(begin)
    (lab.work / "sick").touch()
    lab.run(later)


def test_one_that_was_not_ready_yet_still_has_to_be(lab: Lab) -> None:
    """Also one that was restarted a moment ago, and whose process had not been ready before."""
    code = "import os\nif os.path.exists('waits'): __import__('time').sleep(1000)\n" + SERVER

    async def begin(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-2", code))
        seen = await reaches(engine, "web-2", "ready")
        engine.settle("web-2")
        await until(lambda: lab.restarts("web-2"))
        (lab.work / "waits").touch()
        engine.start(lab.spec("web-1", code))
        assert seen.pid is not None
        os.kill(seen.pid, signal.SIGKILL)
        await until(lambda: lab.has_lives("web-2", 2))
        await until(lambda: lab.lives("web-1"))

    async def later(engine: LocalEngine) -> None:
        assert {seen.state for seen in engine.observe().values()} == {"starting"}

    lab.run(begin)
    lab.run(later)


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01, 0.03])
def test_an_engine_killed_while_it_starts_something(lab: Lab, delay: float) -> None:
    names = ["web-1", "web-2"]
    killed = control_plane(lab, names, "at once")
    time.sleep(delay)
    kill(killed)

    async def scenario(engine: LocalEngine) -> None:
        for name in names:
            engine.start(lab.spec(name))
        for name in names:
            await reaches(engine, name, "ready")
        assert all(lab.lives(name) == 1 for name in names)

    lab.run(scenario)


def test_exits_while_nobody_looks_are_known_afterwards(lab: Lab) -> None:
    async def begin(engine: LocalEngine) -> None:
        waits = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)"
        engine.start(lab.spec("web-1", f"{waits}\nraise SystemExit(42)"))
        engine.start(lab.spec("web-2"))
        engine.start(lab.spec("web-3"))
        for name in ("web-2", "web-3"):
            await reaches(engine, name, "ready")
        engine.settle("web-3")
        await until(lambda: lab.restarts("web-3"))
        await until(lambda: engine.observe()["web-1"].pid)

    lab.run(begin)
    pids = children(lab, ["web-2", "web-3"])
    (lab.work / "go").touch()
    os.kill(pids["web-2"], signal.SIGABRT)
    os.kill(pids["web-3"], signal.SIGKILL)

    async def nobody() -> None:
        await until(lambda: lab.phase("web-1") == "ended" and lab.phase("web-2") == "ended")
        await until(lambda: lab.lives("web-3") == 2)

    asyncio.run(nobody())

    async def later(engine: LocalEngine) -> None:
        seen = engine.observe()
        first, second = seen["web-1"].exit, seen["web-2"].exit
        assert first is not None and (first.code, first.signal) == (42, None)
        assert second is not None and (second.code, second.signal) == (None, "SIGABRT")
        third = await reaches(engine, "web-3", "ready")
        assert third.restarts == 1 and third.exit is not None and third.exit.signal == "SIGKILL"

    lab.run(later)


def test_a_stop_that_was_wished_before_the_crash_is_carried_out(lab: Lab) -> None:
    stop = Stop(drain=0.0, grace=0.5)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)\n"

    async def begin(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", deaf + "time.sleep(1000)", stop=stop))
        await until(lambda: engine.tail("web-1"))
        engine.stop("web-1")
        await until(lambda: lab.supervised("web-1").wished().stop)

    lab.run(begin)

    async def later(engine: LocalEngine) -> None:
        ended = await reaches(engine, "web-1", "exited")
        assert ended.exit is not None and ended.exit.signal == "SIGKILL"

    lab.run(later)


def test_a_folder_without_a_shim_was_never_started(lab: Lab) -> None:
    folder = lab.home / "instances" / "web-1"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")

    async def scenario(engine: LocalEngine) -> None:
        assert engine.observe() == {}
        engine.start(lab.spec("web-1"))
        await reaches(engine, "web-1", "ready")

    lab.run(scenario)


def test_a_service_outlives_its_shim_but_is_condemned(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", health=lab.http()))
        seen = await reaches(engine, "web-1", "ready")
        lab.kill_shim("web-1")
        await until(lambda: not engine.observe()["web-1"].alive)
        seen_then = engine.observe()["web-1"]
        assert (seen_then.state, seen_then.detail) == ("ready", "its shim died")
        assert seen_then.pid == seen.pid and seen.pid is not None and running(seen.pid)
        engine.stop("web-1")
        ended = await reaches(engine, "web-1", "exited")
        assert not running(seen.pid)
        assert ended.exit is not None
        assert ended.exit == Exit(at=ended.exit.at) and ended.detail == "exit code unknown"
        engine.forget("web-1")
        assert engine.observe() == {}

    lab.run(scenario)


def test_an_orphan_is_adopted_by_the_next_engine_too(lab: Lab) -> None:
    async def begin(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        await reaches(engine, "web-1", "ready")

    lab.run(begin)
    pid = children(lab, ["web-1"])["web-1"]
    lab.kill_shim("web-1")

    async def later(engine: LocalEngine) -> None:
        await until(lambda: not engine.observe()["web-1"].alive)
        seen = await reaches(engine, "web-1", "ready")
        assert seen.pid == pid
        os.kill(pid, signal.SIGKILL)
        ended = await reaches(engine, "web-1", "exited")
        assert ended.restarts == 0

    lab.run(later)


RENAMED = """
import ctypes
with open("/proc/self/stat") as file:
    fields = file.read().rpartition(")")[2].split()
start, end = int(fields[47]), int(fields[48])
ctypes.memset(start, 32, end - start)
"""
"""As Redis, nginx and whatever else has a title in `ps`: it lies over the environment."""


@pytest.mark.parametrize("kept", [True, False], ids=["with its shim", "an orphan"])
def test_a_service_that_overwrote_its_environment_is_adopted(lab: Lab, kept: bool) -> None:
    spec = lab.spec("web-1", RENAMED + SERVER, health=lab.http())

    async def begin(engine: LocalEngine) -> None:
        engine.start(spec)
        await reaches(engine, "web-1", "ready")

    lab.run(begin)
    pid = children(lab, ["web-1"])["web-1"]
    assert "PORT" not in (environment_of(pid) or {})
    if not kept:
        lab.kill_shim("web-1")

    async def later(engine: LocalEngine) -> None:
        assert (await reaches(engine, "web-1", "ready")).pid == pid

    lab.run(later)


def test_daemons_of_an_orphan_end_with_it(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        stop = Stop(drain=0.0, grace=0.3)
        quiet = DAEMONS.replace("os.dup2(null, fd)", "pass")
        engine.start(lab.spec("web-1", quiet + "time.sleep(1000)", stop=stop))
        await until(lambda: (lab.work / "deaf").exists() and (lab.work / "polite").exists())
        lab.kill_shim("web-1")
        await until(lambda: not engine.observe()["web-1"].alive)
        status = lab.supervised("web-1").status()
        assert status is not None
        # Found by its log alone where no control group could be made.
        found = orphan.tree(lab.supervised("web-1").path, replace(status, cgroups=()))
        assert {stat.pid for stat in found} >= set(daemons(lab))
        engine.stop("web-1")
        await reaches(engine, "web-1", "exited")
        assert not any(running(pid) for pid in daemons(lab))

    lab.run(scenario)


WORKER = """
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    open("worker.tmp", "w").write(str(os.getpid()))
    os.rename("worker.tmp", "worker")
time.sleep(1000)
"""


@pytest.mark.parametrize("how", ["stopped", "dies"])
def test_a_worker_of_an_orphan_whose_output_goes_elsewhere_ends_with_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Without control groups; it is deaf, and belongs to nobody once the main process is gone."""
    monkeypatch.setattr(orphan, "_members", lambda group: [])

    async def scenario(engine: LocalEngine) -> None:
        stop = Stop(drain=0.0, grace=0.3)
        engine.start(lab.spec("web-1", WORKER, stop=stop))
        await until((lab.work / "worker").exists)
        worker, main = int((lab.work / "worker").read_text()), children(lab, ["web-1"])["web-1"]
        lab.kill_shim("web-1")
        await until(lambda: not engine.observe()["web-1"].alive)
        if how == "stopped":
            engine.stop("web-1")
        else:
            os.kill(main, signal.SIGKILL)
        await reaches(engine, "web-1", "exited")
        assert not running(worker) and not running(main)

    lab.run(scenario)


def test_a_session_with_the_number_of_one_that_is_gone_is_somebody_elses(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", WORKER))
        await until((lab.work / "worker").exists)
        status = lab.supervised("web-1").status()
        assert status is not None and status.child is not None
        stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        try:
            dead = replace(status, child=replace(status.child, pid=stranger.pid), cgroups=())
            found = orphan.tree(lab.supervised("web-1").path, dead)
            assert stranger.pid not in {stat.pid for stat in found}
        finally:
            stranger.kill()
            stranger.wait()

    lab.run(scenario)


def test_shim_and_service_killed_together(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        seen = await reaches(engine, "web-1", "ready")
        engine.settle("web-1")
        await until(lambda: lab.restarts("web-1"))
        assert seen.pid is not None
        lab.kill_shim("web-1")
        os.kill(seen.pid, signal.SIGKILL)
        ended = await reaches(engine, "web-1", "exited")
        assert ended.exit is not None and str(ended.exit) == "exit code unknown"

    lab.run(scenario)


def test_after_a_reboot_everything_is_dead(lab: Lab) -> None:
    async def begin(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        await reaches(engine, "web-1", "ready")

    lab.run(begin)
    status = lab.supervised("web-1").status()
    assert status is not None and status.child is not None
    state = lab.home / "instances" / "web-1" / "state.json"
    document = json.loads(state.read_text())
    lab.end()
    for who in ("shim", "child"):
        # The same numbers, alive again in another boot, are somebody else.
        stranger = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        document[who] = {"boot": "another", "pid": os.getpid(), "ticks": int(stranger[19])}
    state.write_text(json.dumps(document))

    async def later(engine: LocalEngine) -> None:
        ended = await reaches(engine, "web-1", "exited")
        assert ended.exit is not None and str(ended.exit) == "exit code unknown"
        engine.forget("web-1")

    lab.run(later)
