"""Services that misbehave: deaf, forking, talkative, slow, hung. Volery copes and says so."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from typing import Any

import psutil

from acceptance.project import Project, processes_of, sizes, until
from acceptance.services import HTTP, install, route

DEAF = HTTP.replace(
    "signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
)
DAEMON = HTTP.replace(
    "print(",
    """if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 100)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        time.sleep(3600)
    os._exit(0)
os.wait()
print(""",
    1,
)
TALKER = HTTP.replace(
    "print(",
    """def talk():
    line = b"all work and no play makes a dull bird\\n" * 25000
    while True:
        os.write(1, line)
        time.sleep(0.01)
threading.Thread(target=talk, daemon=True).start()
print(""",
    1,
)
BINARY = HTTP.replace(
    "print(",
    """os.write(1, bytes(range(256)) + b"\\n" + b"\\xff\\xfe invalid \\xc3(\\n")
os.write(2, b"\\x1b[31mred\\x1b[0m \\x00 nul\\n" + b"x" * 200000)
os.write(2, b"\\nafter the long line\\n")
print(""",
    1,
)
CLOSER = HTTP.replace(
    "print(",
    """def close(*_):
    server.socket.close()
signal.signal(signal.SIGUSR1, close)
print(""",
    1,
)
SLOW_PROBE = HTTP.replace(
    "    def do_GET(self):",
    """    def do_GET(self):
        if self.path == "/healthz" and pathlib.Path("{slow}").exists():
            time.sleep(59)""",
).replace("import os,", "import pathlib, os,")

HEALTH = {"ready": {"tcp": True}, "every": "200ms", "failures": 3, "startup": "15s"}


def put(project: Project, source: str, **block: Any) -> None:
    install(project, "bird", source, **{"health": HEALTH} | block)
    route(project, "bird", "/")
    project.ok("up")


def instances(project: Project) -> list[dict[str, Any]]:
    return list(project.status()["services"]["bird"]["instances"])


def pids(project: Project) -> set[int]:
    return {item["pid"] for item in instances(project)}


def served(project: Project) -> bool:
    """Whether the service is healthy and users are answered."""
    service = project.status()["services"]["bird"]
    return bool(service["state"] == "healthy" and project.get("/")[0] == 200)


def test_a_service_that_ignores_sigterm(project: Project) -> None:
    put(project, DEAF, stop={"drain": "1s", "grace": "500ms"})
    before = pids(project)
    project.ok("restart", "bird")
    assert served(project) and not pids(project) & before
    assert not any(psutil.pid_exists(pid) for pid in before)
    project.ok("down")


def test_a_daemon_that_left_its_group_goes_too(project: Project) -> None:
    put(project, DAEMON)
    daemon = until(lambda: _daemon(project), "it did fork")
    project.ok("restart", "bird")
    assert not daemon.is_running(), "gone with the instance that started it"
    project.ok("down")
    assert processes_of(project, "main.py") == []


def _daemon(project: Project) -> psutil.Process | None:
    """The one process of the service that is not the instance itself."""
    found = [one for one in processes_of(project, "main.py") if one.pid not in pids(project)]
    return found[0] if len(found) == 1 else None


def test_a_hundred_megabytes_a_second_fill_no_disk(project: Project) -> None:
    put(project, TALKER)
    until(lambda: sizes(project.home, "log") > 0, "it talks")
    pid = next(iter(pids(project)))
    start = _written(pid)
    until(lambda: _written(pid) - start > 300_000_000, "it has written 300 MB")
    assert served(project)
    until(lambda: sizes(project.home) < 100_000_000, "the logs are bounded")
    assert pids(project) == {pid}


def test_the_last_lines_of_a_service_that_never_stops_talking(project: Project) -> None:
    put(project, TALKER)
    reading = project.start("logs", "bird", "--lines", "5")
    try:
        assert served(project), "the control plane answers meanwhile"
        out, err = reading.communicate(timeout=300)
        assert reading.returncode == 0 and "dull bird" in out, err
    finally:
        reading.kill()
        reading.communicate()


def _written(pid: int) -> int:
    return int(psutil.Process(pid).io_counters().write_chars)


def test_logs_of_any_bytes(project: Project) -> None:
    put(project, BINARY)
    text = until(lambda: _logs_to_the_end(project), "all is there")
    assert "invalid" in text and "after the long line" in text
    lines = project.ok("logs", "bird", "--output", "json").out.splitlines()
    found = [json.loads(line) for line in lines]
    assert all(set(item) >= {"at", "instance", "text"} for item in found)
    assert any("after the long line" in item["text"] for item in found)
    assert "\x1b" not in text, "nobody's terminal is taken over"


def _logs_to_the_end(project: Project) -> str:
    text = project.ok("logs", "bird").out
    return text if "listening" in text else ""


def test_a_service_that_closes_its_port(project: Project) -> None:
    put(project, CLOSER, scale=2, health=HEALTH | {"live": {"tcp": True}})
    victim = instances(project)[0]
    os.kill(victim["pid"], signal.SIGUSR1)
    until(lambda: victim["pid"] not in pids(project) and served(project), "it is replaced")
    assert len(instances(project)) == 2


def test_a_hung_instance_is_replaced_while_others_serve(project: Project) -> None:
    health = HEALTH | {"ready": "/healthz", "live": "/healthz", "timeout": "2s"}
    put(project, HTTP, scale=2, health=health)
    victim = instances(project)[0]
    os.kill(victim["pid"], signal.SIGSTOP)
    until(lambda: _out_of_rotation(project, victim["id"]), "it is seen")
    until(lambda: _answers(project, 10), "the other one serves")
    until(lambda: victim["pid"] not in pids(project) and served(project), "it is replaced")
    until(lambda: not psutil.pid_exists(victim["pid"]), "and gone")


def _answers(project: Project, times: int) -> bool:
    try:
        return all(project.get("/")[0] == 200 for _ in range(times))
    except OSError:
        return False


def _out_of_rotation(project: Project, instance: str) -> bool:
    found = [item["state"] for item in instances(project) if item["id"] == instance]
    return found != ["ready"]


def test_a_probe_that_is_answered_in_59_seconds(project: Project) -> None:
    slow = project.folder.parent / "slow"
    health = HEALTH | {"ready": "/healthz", "live": "/healthz", "timeout": "300ms"}
    put(project, SLOW_PROBE.replace("{slow}", str(slow)), health=health)
    before = pids(project)
    slow.touch()
    until(lambda: _says_why(project), "the probe's time is over, and that is told")
    slow.unlink()
    until(lambda: served(project), "it recovers or is replaced")
    assert len(instances(project)) == 1 and (pids(project) - before or pids(project) == before)


def _says_why(project: Project) -> bool:
    lines = project.ok("--output", "json", "events", "bird").out.splitlines()
    told = [event["text"] for event in map(json.loads, lines)]
    shown = [item["detail"] for item in instances(project)]
    return any("/healthz" in text and "300ms" in text for text in (*told, *shown))


def test_a_service_that_crashes_again_and_again_is_not_hammered(project: Project) -> None:
    put(project, HTTP, scale=2)
    victim = instances(project)[0]
    for _ in range(3):
        pid = until(lambda: _pid_of(project, victim["id"]), "it runs")
        os.kill(pid, signal.SIGKILL)
        until(partial(_is_gone, pid), "it is dead")
        assert project.get("/")[0] == 200, "the other one serves"
    until(lambda: served(project) and len(instances(project)) == 2, "it comes back")


def _is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def _pid_of(project: Project, instance: str) -> int | None:
    return next((item["pid"] for item in instances(project) if item["id"] == instance), None)
