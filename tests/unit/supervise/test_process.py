"""One supervised process and its folder: what is promised to whoever starts a shim."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

import volery
from volery.model.errors import Code, VoleryError
from volery.supervise import process
from volery.supervise.identity import Identity, environment_of
from volery.supervise.process import Backoff, Fallback, Spec, Status, Supervised, Wish
from volery.supervise.shim.child import expand
from volery.supervise.shim.processes import Stat, send

SLEEP = ("sleep", "1000")
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Supervised]:
    found = Supervised(tmp_path / "place")
    yield found
    status = found.status()
    if status is not None and found.looked_after():
        found.wish(Wish(stop=True, grace=0.0))
        until(lambda: not found.looked_after())
    if status is not None and status.child is not None:
        status.child.send(signal.SIGKILL)


def in_phase(place: Supervised, phase: str) -> Status:
    seen: list[Status] = []

    def found() -> bool:
        status = place.status()
        seen[:] = [status] if status is not None and status.phase == phase else []
        return bool(seen)

    until(found)
    return seen[0]


def running(place: Supervised) -> Status:
    """The status once the program itself runs."""
    status = in_phase(place, "running")
    child = status.child
    assert child is not None
    until(lambda: not child.alive() or b"-I" not in _argv(child.pid))
    return status


def _argv(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_what_is_written_twice_at_one_moment_is_read_twice(place: Supervised) -> None:
    me = Identity.of(os.getpid())
    assert me is not None
    place.path.mkdir()
    file, now = place.path / "state.json", time.time()
    for phase in ("running", "stopped", "backoff"):
        file.write_text(json.dumps({"phase": phase, "shim": asdict(me)}))
        os.utime(file, (now, now))
        found = place.status()
        assert found is not None and found.phase == phase


def test_a_folder_has_one_shim(place: Supervised, tmp_path: Path) -> None:
    spec = Spec(SLEEP, str(tmp_path))
    assert not place.looked_after() and place.status() is None
    place.launch(spec, ENVIRONMENT)
    assert place.looked_after()
    first = running(place)
    with pytest.raises(VoleryError, match="already") as refused:
        place.launch(spec, ENVIRONMENT)
    assert refused.value.code is Code.CONFLICT
    assert place.status() == first and first.child is not None and first.child.alive()


def test_who_only_asks_whether_there_is_a_shim_hinders_none(
    place: Supervised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, lock = iter([False, False]), process._lock
    monkeypatch.setattr(process, "_lock", lambda fd: next(taken, True) and lock(fd))
    place.launch(Spec(SLEEP, str(tmp_path)), ENVIRONMENT)
    assert running(place).phase == "running"


def test_one_of_somebody_else_keeps_nobody_from_ending_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(pidfd: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    me = Stat.mine()
    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    assert not send(me.pid, me.ticks, signal.SIGTERM)


def test_a_place_can_be_used_again(place: Supervised, tmp_path: Path) -> None:
    for code in (3, 4, 5):
        place.launch(
            Spec(("sh", "-c", f"echo life {code}; exit {code}"), str(tmp_path)), ENVIRONMENT
        )
        ended = in_phase(place, "ended")
        assert [found.code for found in ended.exits] == [code]
    assert (place.path / "log").read_text() == "life 3\nlife 4\nlife 5\n"


def test_a_stop_while_it_waits_ends_it_at_once(place: Supervised, tmp_path: Path) -> None:
    spec = Spec(("false",), str(tmp_path), backoff=Backoff(first=1000.0, cap=1000.0))
    place.launch(spec, ENVIRONMENT, restart=True)
    waiting = in_phase(place, "waiting")
    until(lambda: (status := place.status()) is not None and len(status.exits) == 2)
    waiting = in_phase(place, "waiting")
    assert waiting.restarts == 2 and waiting.next_at is not None
    assert 400 < waiting.next_at - time.time() <= 1000
    place.wish(Wish(stop=True))
    ended = in_phase(place, "ended")
    assert ended.restarts == 2 and ended.child is None


def test_healthy_running_makes_the_next_restart_quick_again(
    place: Supervised, tmp_path: Path
) -> None:
    spec = Spec(SLEEP, str(tmp_path), backoff=Backoff(first=1000.0, cap=1000.0, healthy=0.0))
    place.launch(spec, ENVIRONMENT, restart=True)

    def lives(number: int) -> bool:
        status = place.status()
        return status is not None and status.restarts == number and status.child is not None

    for restarts in range(4):
        until(partial(lives, restarts))
        status = place.status()
        assert status is not None and status.child is not None
        status.child.send(signal.SIGKILL)


def test_a_tree_that_is_not_ours_is_left_alone(place: Supervised, tmp_path: Path) -> None:
    """As for the control plane: the shims of instances are its children."""
    script = "setsid sleep 1000 & echo $! > child; wait"
    place.launch(Spec(("sh", "-c", script), str(tmp_path), tree=False), ENVIRONMENT, restart=True)
    path = tmp_path / "child"
    until(lambda: path.exists() and path.read_text().strip())
    first = running(place)
    left = Identity.of(int(path.read_text()))
    assert left is not None and first.child is not None and first.cgroups == ()
    path.unlink()
    first.child.send(signal.SIGKILL)
    until(lambda: path.exists() and path.read_text().strip())
    other = Identity.of(int(path.read_text()))
    assert other is not None
    try:
        place.wish(Wish(stop=True))
        in_phase(place, "ended")
        assert left.alive() and other.alive(), "what it started was ended too"
    finally:
        left.send(signal.SIGKILL)
        other.send(signal.SIGKILL)


def test_the_other_command_is_used_when_nobody_answers(place: Supervised, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    path = folder / "control.sock"
    spec = Spec(
        ("sh", "-c", "echo first; exec sleep 1000"),
        str(tmp_path),
        fallback=Fallback(("sh", "-c", "echo other; exec sleep 1000"), str(path)),
    )
    place.launch(spec, ENVIRONMENT, restart=True)
    log = place.path / "log"
    until(lambda: log.exists() and log.read_text() == "other\n")
    alone = in_phase(place, "running")
    assert alone.fallback and alone.child is not None
    with socket.socket(socket.AF_UNIX) as server:
        fd = os.open(folder, os.O_PATH)
        server.bind(f"/proc/self/fd/{fd}/control.sock")
        os.close(fd)
        server.listen()
        greeter = threading.Thread(target=_greet, args=[server])
        greeter.start()
        alone.child.send(signal.SIGKILL)
        until(lambda: log.read_text() == "other\nfirst\n")
        greeter.join()
        again = in_phase(place, "running")
        assert not again.fallback and again.child is not None
        # It listens on and says nothing any more, like a process that hangs.
        again.child.send(signal.SIGKILL)
        until(lambda: log.read_text() == "other\nfirst\nother\n")


def _greet(server: socket.socket) -> None:
    """Speak first, once."""
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"settings")


def test_a_large_environment_and_held_descriptors(place: Supervised, tmp_path: Path) -> None:
    environment = ENVIRONMENT | {f"N{number}": "x" * 1000 for number in range(500)}
    read, write = os.pipe()
    place.launch(Spec(SLEEP, str(tmp_path)), environment, hold=[write])
    os.close(write)
    status = running(place)
    assert status.child is not None
    child = status.child
    until(lambda: environment_of(child.pid) == environment)
    assert place.environment() == environment
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)  # still open: the shim holds the other end, and only the shim
    targets = {str(path.readlink()) for path in Path(f"/proc/{child.pid}/fd").iterdir()}
    assert not any("pipe" in target or "lock" in target for target in targets)
    assert environment_of(status.shim.pid) in ({}, {"LC_CTYPE": "C.UTF-8"})
    place.wish(Wish(stop=True))
    until(lambda: not place.looked_after())
    assert os.read(read, 1) == b"" and place.environment() is None
    os.close(read)


def test_signals_to_the_shim_stop_its_process(place: Supervised, tmp_path: Path) -> None:
    shim = place.launch(Spec(SLEEP, str(tmp_path)), ENVIRONMENT, restart=True)
    running(place)
    shim.send(signal.SIGTERM)
    ended = in_phase(place, "ended")
    assert ended.exits[-1].signal == "SIGTERM" and ended.restarts == 0


def test_a_lost_wake_up_costs_only_time(place: Supervised, tmp_path: Path) -> None:
    place.launch(Spec(SLEEP, str(tmp_path)), ENVIRONMENT)
    running(place)
    place._write(Wish(stop=True))
    in_phase(place, "ended")


def test_wishes_are_remembered(place: Supervised, tmp_path: Path) -> None:
    place.launch(Spec(SLEEP, str(tmp_path), about={"note": [1]}), ENVIRONMENT)
    assert place.wished() == Wish()
    place.wish(Wish(restart=True, grace=3.0))
    assert place.wished() == Wish(restart=True, grace=3.0)
    assert place.about() == {"note": [1]}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VoleryError, match="cannot start a shim"):
        Supervised(tmp_path / "file" / "place").launch(Spec(SLEEP, "/"), {})


def test_an_identity_is_of_one_process_only() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        one = Identity.of(process.pid)
        assert one is not None and one.alive()
        for stranger in (
            Identity("another boot", one.pid, one.ticks),
            Identity(one.boot, one.pid, one.ticks + 1),
        ):
            assert not stranger.alive() and stranger.open() is None
            assert not stranger.send(signal.SIGKILL)
        assert one.send(signal.SIGKILL)
        until(lambda: not one.alive())
        assert Path(f"/proc/{one.pid}/stat").exists(), "a zombie counts as dead"
    assert Identity.of(process.pid) is None
    assert environment_of(process.pid) is None


def test_identity_of_a_process_with_a_nasty_name(tmp_path: Path) -> None:
    program = tmp_path / "a ) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "1000"]) as process:
        one = Identity.of(process.pid)
        assert one is not None and one.alive() and one.ticks > 1000
        process.kill()


@pytest.mark.parametrize(
    ("words", "expanded"),
    [
        (["a", "$X", "${X}y", "$Xy"], ["a", "1", "1y", ""]),
        (["a", "$5 $ ${} $$ ${X"], ["a", "$5 $ ${} $$ ${X"]),
        (["$X", "-c", "$X"], ["1", "-c", "1"]),
        (["/bin/bash", "-ec", "$X", "-c"], ["/bin/bash", "-ec", "$X", "-c"]),
        (["sh", "-c", "echo $X"], ["sh", "-c", "echo $X"]),
        (["sh", "start.sh", "$X"], ["sh", "start.sh", "1"]),
        (["sh", "start.sh", "-c", "$X"], ["sh", "start.sh", "-c", "1"]),
        (["bash", "-o", "posix", "$X"], ["bash", "-o", "posix", "1"]),
        (["bash", "--norc", "$X"], ["bash", "--norc", "1"]),
        (["sh", "-c"], ["sh", "-c"]),
        *(
            ([*shell, "echo $X $i", "$X"], [*shell, "echo $X $i", "$X"])
            for shell in (
                ["bash", "-euo", "pipefail", "-c"],
                ["bash", "-e", "-c"],
                ["bash", "-ce"],
                ["bash", "-c", "+o", "posix", "--"],
                ["bash", "--rcfile", "x", "-c"],
                ["timeout", "60", "sh", "-c"],
                ["busybox", "sh", "-c"],
            )
        ),
        (["env", "A=$X", "/bin/sh", "-c", "echo $X"], ["env", "A=1", "/bin/sh", "-c", "echo $X"]),
    ],
)
def test_words_are_expanded_without_a_shell(words: list[str], expanded: list[str]) -> None:
    assert expand(words, {"X": "1"}) == expanded


def test_a_shim_imports_little() -> None:
    root = Path(sys.modules["volery"].__file__ or "").parent.parent
    code = "import sys; sys.path.append(sys.argv[1]); import volery.supervise.shim.lives; "
    code += "print(*sorted(sys.modules))"
    command = [sys.executable, "-I", "-S", "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"typing", "dataclasses", "pathlib", "subprocess", "asyncio", "socket", "pydantic"}
    assert not loaded & heavy
    ours = {name for name in loaded if name.startswith("volery.")}
    assert all(name.startswith("volery.supervise") for name in ours)
    assert len(loaded) < 100


def test_a_start_that_fails_is_not_another_end(place: Supervised, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    spec = Spec((str(program),), str(tmp_path), backoff=Backoff(first=0.01, cap=0.01, healthy=0.0))
    place.launch(spec, ENVIRONMENT, restart=True)
    child = running(place).child
    assert child is not None
    program.unlink()
    child.send(signal.SIGKILL)
    log = tmp_path / "place" / "log"
    until(lambda: log.read_text().count("program") > 3)
    status = in_phase(place, "waiting")  # while it is tried again, nobody knows that it fails again
    assert "program" in status.detail
    assert (status.restarts, len(status.exits)) == (1, 1)


NO_PIPES = """
import errno, json, os, sys
sys.path.append(sys.argv[1])
from volery.supervise.shim import lives
spec = json.loads(sys.argv[2])
shim, really = lives.Shim(spec, {"PATH": os.environ["PATH"]}), os.pipe2
shim.restart = True

def full(flags):
    os.pipe2 = really
    raise OSError(errno.ENFILE, "Too many open files in system")

os.pipe2 = full
phases = []
for _ in range(3):
    shim.due = 0.0
    shim.look()
    phases.append(shim.phase)
print(phases, shim.child is not None)
shim.kill()
"""


def test_no_descriptors_at_a_start_are_met_again_at_the_next_look(
    place: Supervised, tmp_path: Path
) -> None:
    spec = json.dumps(asdict(Spec(SLEEP, str(tmp_path))))
    root = str(Path(volery.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", NO_PIPES, root, spec],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "['waiting', 'running', 'running'] True\n", done.stderr
