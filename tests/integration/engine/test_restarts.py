"""What happens when a process ends by itself: back once its release is proven, else not."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial

from integration.engine.lab import Lab, fetch, reaches, running, until

from volery.engines.local import LocalEngine


def test_a_settled_instance_comes_back_at_once_on_the_same_port(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", health=lab.http()))
        first = await reaches(engine, "web-1", "ready")
        engine.settle("web-1")
        await until(lambda: lab.restarts("web-1"))
        assert first.address is not None
        await fetch(first.address, "/crash")
        await until(lambda: engine.observe()["web-1"].restarts == 1)
        again = await reaches(engine, "web-1", "ready")
        assert again.address == first.address and again.pid != first.pid
        assert again.exit is not None and again.exit.code == 3
        assert again.started_at > first.started_at
        assert "200 OK" in await fetch(again.address or "")

    lab.run(scenario)


def test_it_is_out_of_rotation_from_its_death_until_its_probe_passes(lab: Lab) -> None:
    states: list[tuple[int | None, str]] = []

    async def scenario(engine: LocalEngine) -> None:
        def note() -> None:
            now = engine.observe()["web-1"]
            states.append((now.pid, now.state))

        engine._wake = note
        engine.start(lab.spec("web-1", health=lab.http()))
        seen = await reaches(engine, "web-1", "ready")
        engine.settle("web-1")
        await until(lambda: lab.restarts("web-1"))
        (lab.work / "sick").touch()
        states.clear()
        assert seen.pid is not None
        os.kill(seen.pid, signal.SIGKILL)
        await until(lambda: "answered 503" in engine.observe()["web-1"].detail)
        again = engine.observe()["web-1"]
        assert again.state == "starting" and again.pid not in (None, seen.pid)
        assert again.detail == "restarted after: killed by SIGKILL; GET /healthz answered 503"
        assert {state for pid, state in states if pid != seen.pid} == {"starting"}
        (lab.work / "sick").unlink()
        await reaches(engine, "web-1", "ready")

    lab.run(scenario)


def test_an_unproven_instance_stays_down(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        seen = await reaches(engine, "web-1", "ready")
        assert seen.pid is not None
        os.kill(seen.pid, signal.SIGSEGV)
        ended = await reaches(engine, "web-1", "exited")
        assert ended.exit is not None and ended.exit.signal == "SIGSEGV"
        assert ended.restarts == 0 and ended.detail == "killed by SIGSEGV"

    lab.run(scenario)


def test_a_crash_loop_is_slowed_down(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", "import time; time.sleep(1000)"))
        await until(lambda: engine.observe()["web-1"].pid)
        engine.settle("web-1")
        await until(lambda: lab.restarts("web-1"))
        for crash in range(5):
            await until(partial(lab.has_lives, "web-1", crash + 1))
            now = lab.supervised("web-1").status()
            assert now is not None and now.child is not None
            now.child.send(signal.SIGKILL)
        await until(lambda: lab.lives("web-1") == 6)
        last = lab.supervised("web-1").status()
        assert last is not None
        waited = last.started_at - last.exits[-1].at
        assert waited >= 0.4, "the fifth restart waits 0.8 s, less at most half of it"
        await until(lambda: engine.observe()["web-1"].restarts == 5)
        engine.stop("web-1")
        ended = await reaches(engine, "web-1", "exited")
        assert ended.restarts == 5

    lab.run(scenario)


def test_what_a_crashed_process_left_behind_ends_before_the_next_start(lab: Lab) -> None:
    code = """
import os, socket, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(os.environ["PORT"])))
server.listen()
if os.fork() == 0:
    os.setsid()
    open("heirs", "a").write(f"{os.getpid()}\\n")
    time.sleep(1000)
time.sleep(1000)
"""

    def heirs() -> list[int]:
        path = lab.work / "heirs"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code))
        seen = await reaches(engine, "web-1", "ready")
        engine.settle("web-1")
        await until(lambda: lab.restarts("web-1") and len(heirs()) == 1)
        assert seen.pid is not None
        os.kill(seen.pid, signal.SIGKILL)
        await until(lambda: len(heirs()) == 2)
        await reaches(engine, "web-1", "ready")
        assert not running(heirs()[0]) and running(heirs()[1])

    lab.run(scenario)


def test_a_start_that_fails_is_tried_again_once_settled(lab: Lab) -> None:
    script = lab.work / "start.sh"
    script.write_text("#!/bin/sh\nsleep 1000\n")
    script.chmod(0o755)

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", "./start.sh", "x"))
        await until(lambda: engine.observe()["web-1"].pid)
        engine.settle("web-1")
        await until(lambda: lab.restarts("web-1"))
        script.rename(lab.work / "moved.sh")
        pid = engine.observe()["web-1"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: engine.observe()["web-1"].detail == "command not found: ./start.sh")
        assert engine.observe()["web-1"].state == "starting"
        (lab.work / "moved.sh").rename(script)
        await until(lambda: engine.observe()["web-1"].pid not in (None, pid))

    lab.run(scenario)


def test_many_at_once(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        names = [f"web-{number}" for number in range(10)]
        for name in names:
            engine.start(lab.spec(name))
        await asyncio.gather(*(reaches(engine, name, "ready") for name in names))
        addresses = {seen.address for seen in engine.observe().values()}
        assert len(addresses) == len(names)
        for name in names:
            engine.stop(name)
        await asyncio.gather(*(reaches(engine, name, "exited") for name in names))

    lab.run(scenario)
