"""The ordinary life of an instance: start, readiness, logs, stop, being forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from integration.engine.lab import DAEMONS, Lab, daemons, fetch, reaches, running, until
from integration.tiny_disk import tiny_disk

from volery.engines.local import LocalEngine
from volery.model.application import Health, Resources, Stop
from volery.model.errors import VoleryError
from volery.model.ports import Exit
from volery.supervise.ports import reserve


def test_an_instance_starts_serves_and_stops(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", health=lab.http()))
        assert engine.observe()["web-1"].state == "starting"
        seen = await reaches(engine, "web-1", "ready")
        assert seen.address is not None and seen.pid is not None
        assert seen.alive and seen.detail == "" and seen.exit is None and seen.restarts == 0
        assert "200 OK" in await fetch(seen.address)
        assert lab.wakes
        engine.start(lab.spec("web-1", health=lab.http()))
        assert engine.observe()["web-1"].pid == seen.pid, "a known instance was started again"
        engine.stop("web-1")
        engine.stop("web-1")
        assert engine.observe()["web-1"].state == "stopping"
        ended = await reaches(engine, "web-1", "exited")
        assert ended.exit == Exit(signal="SIGTERM", at=ended.exit.at if ended.exit else 0.0)
        assert ended.pid is None
        assert not Path(f"/proc/{seen.pid}").exists()
        assert engine.tail("web-1") == ["listening"]
        engine.forget("web-1")
        assert engine.observe() == {}
        assert engine.tail("web-1") == ["listening"]
        engine.start(lab.spec("web-1"))
        await reaches(engine, "web-1", "ready")

    lab.run(scenario)


def test_forgetting_a_running_instance_does_nothing(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        await reaches(engine, "web-1", "ready")
        engine.forget("web-1")
        assert engine.observe()["web-1"].state == "ready"
        for unknown in (engine.stop, engine.settle, engine.forget):
            unknown("nobody")
        assert engine.tail("nobody") == []

    lab.run(scenario)


def test_it_gets_exactly_its_environment_and_a_sane_process(lab: Lab) -> None:
    code = """
import os, resource, signal
print(sorted(os.environ), os.environ["HOST"], os.getcwd())
print(signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(open("/proc/self/status").read().split("SigIgn:")[1].split()[0])
print(resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))
print(sorted(os.listdir("/proc/self/fd")), os.readlink("/proc/self/fd/0"))
print(os.getsid(0) == os.getpid() == os.getpgid(0), flush=True)
"""

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code))
        await reaches(engine, "web-1", "exited")
        names, signals, ignored, limits, fds, leads = engine.tail("web-1")
        given = ["HOST", "LC_CTYPE", "PATH", "PORT", "VOLERY_INSTANCE"]
        assert names in (
            f"{given} 127.0.0.1 {lab.work}",
            f"{[name for name in given if name != 'LC_CTYPE']} 127.0.0.1 {lab.work}",
        )
        assert signals == "0 set()"
        # Python itself ignores SIGPIPE and SIGXFSZ; 32 and 33 belong to the C library.
        assert int(ignored, 16) & 0x7FFFFFFF & ~(1 << 12 | 1 << 24) == 0
        assert limits == "(0, 0) 0o22"
        assert fds == "['0', '1', '2', '3'] /dev/null"
        assert leads == "True"

    lab.run(scenario)


def test_words_of_the_command_name_variables(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        environment = {"PATH": os.environ["PATH"], "GREETING": "hello"}
        words = ("echo", "$GREETING", "${GREETING}-$PORT", "a$UNKNOWN-b", "$1")
        engine.start(lab.spec("web-1", *words, environment=environment))
        script = 'for bird in owl; do echo "$bird $GREETING"; done'
        engine.start(lab.spec("web-2", "sh", "-c", script, environment=environment))
        seen = await reaches(engine, "web-1", "exited")
        assert seen.address is not None
        port = seen.address.rpartition(":")[2]
        assert engine.tail("web-1") == [f"hello hello-{port} a-b $1"]
        await reaches(engine, "web-2", "exited")
        assert engine.tail("web-2") == ["owl hello"]

    lab.run(scenario)


def test_a_command_that_cannot_run_says_why(lab: Lab) -> None:
    (lab.work / "plain").write_text("no program")
    (lab.work / "lost").write_text("#!/nowhere/interpreter\n")
    (lab.work / "lost").chmod(0o755)
    (lab.work / "odd").write_text("neither this nor that")
    (lab.work / "odd").chmod(0o755)
    cases = {
        "no-such-tool": "command not found: no-such-tool",
        "./missing.sh": "command not found: ./missing.sh",
        "./plain": "not executable: ./plain",
        "./lost": "the interpreter named in the first line of ./lost does not exist",
        "./odd": "neither a program nor a script that begins with #!: ./odd",
    }

    async def scenario(engine: LocalEngine) -> None:
        for number, (command, why) in enumerate(cases.items()):
            engine.start(lab.spec(f"web-{number}", command, "argument"))
            seen = await reaches(engine, f"web-{number}", "exited")
            assert (seen.detail, seen.exit) == (why, None)
            assert engine.tail(f"web-{number}") == [f"volery: {why}"]
        engine.start(lab.spec("web-9", "true", "x", directory="/nowhere"))
        seen = await reaches(engine, "web-9", "exited")
        assert seen.detail == "cannot enter /nowhere: No such file or directory"

    lab.run(scenario)


def test_a_script_of_the_folder_runs(lab: Lab) -> None:
    (lab.work / "start.sh").write_text("#!/bin/sh\necho started on $PORT\n")
    (lab.work / "start.sh").chmod(0o755)

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", "./start.sh", "now"))
        await reaches(engine, "web-1", "exited")
        assert engine.tail("web-1")[0].startswith(("started on 2", "started on 3"))

    lab.run(scenario)


def test_an_exit_while_starting_is_seen_with_its_last_words(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(
            lab.spec("web-1", "print('cannot find my database', flush=True); raise SystemExit(3)")
        )
        seen = await reaches(engine, "web-1", "exited")
        assert seen.exit is not None and seen.exit.code == 3 and seen.exit.at > 0
        assert seen.detail == "exit code 3"
        assert engine.tail("web-1") == ["cannot find my database"]

    lab.run(scenario)


def test_who_ignores_sigterm_is_killed_after_its_grace(lab: Lab) -> None:
    code = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
print("up", flush=True)
while True: time.sleep(100)
"""

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code, stop=Stop(drain=0.0, grace=5.0)))
        await until(lambda: engine.tail("web-1") == ["up"])
        engine.stop("web-1")
        seen = await reaches(engine, "web-1", "exited")
        assert seen.exit is not None and seen.exit.signal == "SIGKILL"
        assert not seen.exit.out_of_memory
        assert engine.tail("web-1") == ["up", "heard"]

    lab.run(scenario)


def test_a_suspended_process_can_be_stopped(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        seen = await reaches(engine, "web-1", "ready")
        assert seen.pid is not None
        os.kill(seen.pid, signal.SIGSTOP)
        engine.stop("web-1")
        ended = await reaches(engine, "web-1", "exited")
        assert ended.exit is not None and ended.exit.signal == "SIGTERM"

    lab.run(scenario)


def test_daemons_that_left_group_and_session_end_too(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        stop = Stop(drain=0.0, grace=0.5)
        engine.start(lab.spec("web-1", DAEMONS + "time.sleep(1000)", stop=stop))
        await until(lambda: (lab.work / "deaf").exists() and (lab.work / "polite").exists())
        assert all(running(pid) for pid in daemons(lab))
        engine.stop("web-1")
        await reaches(engine, "web-1", "exited")
        assert not any(running(pid) for pid in daemons(lab))

    lab.run(scenario)


def test_daemons_do_not_outlive_a_process_that_exits(lab: Lab) -> None:
    both = "while not (os.path.exists('polite') and os.path.exists('deaf')): time.sleep(0.01)\n"

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", DAEMONS + both + "sys.exit(7)"))
        seen = await reaches(engine, "web-1", "exited")
        assert seen.exit is not None and seen.exit.code == 7
        assert not any(running(pid) for pid in daemons(lab))

    lab.run(scenario)


def test_a_stop_right_after_the_start_is_heard(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        for number in range(3):
            engine.start(lab.spec(f"web-{number}"))
            engine.stop(f"web-{number}")
        for number in range(3):
            await reaches(engine, f"web-{number}", "exited")

    lab.run(scenario)


def test_a_volume_is_made_and_kept(lab: Lab) -> None:
    volume = lab.home / "volumes" / "web" / "data-1"
    environment = {"PATH": os.environ["PATH"], "VOLERY_VOLUME": str(volume)}

    async def scenario(engine: LocalEngine) -> None:
        code = "import os; open(os.environ['VOLERY_VOLUME'] + '/kept', 'w').close()"
        spec = lab.spec("web-1", code, volume=str(volume), environment=environment)
        engine.start(spec)
        await reaches(engine, "web-1", "exited")
        engine.forget("web-1")
        assert (volume / "kept").exists()

    lab.run(scenario)


def test_a_home_with_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20) / ("deeper" * 20)
    assert len(str(deep)) > 200
    lab = Lab(deep / "home", tmp_path / "work")
    lab.work.mkdir()

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        await reaches(engine, "web-1", "ready")
        engine.stop("web-1")
        await reaches(engine, "web-1", "exited")

    try:
        lab.run(scenario)
    finally:
        lab.end()


def test_two_homes_get_different_ports(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other", lab.work)

    async def scenario(engine: LocalEngine) -> None:
        second = other.engine()
        await second.open()
        try:
            for number in range(3):
                engine.start(lab.spec(f"web-{number}"))
                second.start(other.spec(f"web-{number}"))
            for number in range(3):
                await reaches(engine, f"web-{number}", "ready")
                await reaches(second, f"web-{number}", "ready")
            both = [*engine.observe().values(), *second.observe().values()]
            addresses = {seen.address for seen in both}
            assert len(addresses) == 6
        finally:
            await second.close()

    try:
        lab.run(scenario)
    finally:
        other.end()


def test_a_port_stays_with_its_instance_before_it_listens(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", "import time; time.sleep(1000)"))
        await until(lambda: engine.observe()["web-1"].pid)
        port = int((engine.observe()["web-1"].address or "").rpartition(":")[2])
        other = reserve(port)
        other.close()
        assert other.port != port
        engine.stop("web-1")
        await reaches(engine, "web-1", "exited")
        await until(lambda: not lab.supervised("web-1").looked_after())
        again = reserve(port)
        again.close()
        assert again.port == port

    lab.run(scenario)


def test_a_removed_home_leaves_nothing_running(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        await reaches(engine, "web-1", "ready")

    lab.run(scenario)
    status = lab.supervised("web-1").status()
    assert status is not None and status.child is not None
    deadline = time.monotonic() + 60
    while lab.home.exists():  # its shim may write a line in between
        assert time.monotonic() < deadline
        subprocess.run(["rm", "-rf", str(lab.home)], check=False)
    os.waitpid(status.shim.pid, 0)
    assert not status.child.alive()


def test_resources_are_named_as_they_are_enforced(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        resources = Resources(memory=256 * 2**20, cpu=0.5, pids=64, files=128)
        engine.start(lab.spec("web-1", resources=resources))
        seen = await reaches(engine, "web-1", "ready")
        known = {"cgroup v1", "cgroup v2", "watched", "rlimit", "not enforced"}
        assert set(seen.enforced) == {"memory", "cpu", "pids", "files"}
        assert set(seen.enforced.values()) <= known
        assert seen.enforced["files"] == "rlimit"

    lab.run(scenario)


def test_health_without_a_path_is_a_connection(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", "import time; time.sleep(1000)", health=Health()))
        await until(lambda: engine.observe()["web-1"].detail == "connection refused")
        assert engine.observe()["web-1"].state == "starting"

    lab.run(scenario)


def test_a_volume_is_made_looked_after_and_required(lab: Lab) -> None:
    volume = lab.home / "volumes" / "data-0"

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("db-0", volume=str(volume)))
        await until(lambda: engine.observe()["db-0"].state == "ready")
        assert engine.observe()["db-0"].volume_made and not engine.observe()["db-0"].volume
        volume.rename(volume.with_name("elsewhere"))
        await until(lambda: engine.observe()["db-0"].volume == "is gone")
        volume.mkdir()
        await until(lambda: "at the start" in engine.observe()["db-0"].volume)
        volume.rmdir()
        volume.with_name("elsewhere").rename(volume)
        await until(lambda: not engine.observe()["db-0"].volume)

    lab.run(scenario)


def test_nothing_is_started_on_a_volume_that_is_read_only(lab: Lab, tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        disk.remount("ro")

        async def scenario(engine: LocalEngine) -> None:
            for name in ("", "not-there-yet"):
                with pytest.raises(VoleryError, match="is read-only"):
                    engine.start(lab.spec("db-0", volume=str(disk.folder / name)))
            assert not engine.observe()

        lab.run(scenario)
